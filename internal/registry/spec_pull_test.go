package registry

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// The names of the tests below are what the specification says a registry must do.

func TestSpecPull(t *testing.T) {
	c := newClient(t)
	c.repo("a/b")
	content := bytes.Repeat([]byte("layer"), 20_000) // longer than what is kept inline
	layer := c.push("a/b", content)
	short := c.push("a/b", []byte("short"))
	body := c.tagged("a/b", "v1", "one", nil)
	digest := Digest(body)

	t.Run("the support endpoint answers 200", func(t *testing.T) { c.ask("GET", "/v2/", nil).is(200) })
	t.Run("GET of a manifest answers 200 with its bytes and Docker-Content-Digest", func(t *testing.T) {
		for _, ref := range []string{"v1", digest} {
			a := c.ask("GET", "/v2/a/b/manifests/"+ref, nil).is(200).has("Docker-Content-Digest", digest).has("Content-Type", OCIManifest)
			if !bytes.Equal(a.body, body) {
				t.Fatal("other bytes")
			}
		}
	})
	t.Run("HEAD of a manifest answers 200 with Docker-Content-Digest and Content-Length", func(t *testing.T) {
		c.ask("HEAD", "/v2/a/b/manifests/v1", nil).is(200).has("Docker-Content-Digest", digest).has("Content-Length", fmt.Sprint(len(body)))
	})
	t.Run("a manifest that is not there answers 404", func(t *testing.T) {
		c.ask("GET", "/v2/a/b/manifests/v2", nil).fails(404, "MANIFEST_UNKNOWN")
		c.ask("GET", "/v2/a/b/manifests/"+Digest([]byte("x")), nil).fails(404, "MANIFEST_UNKNOWN")
		c.ask("HEAD", "/v2/a/b/manifests/v2", nil).is(404)
	})
	t.Run("a reference is a tag or a digest and nothing else", func(t *testing.T) {
		c.ask("GET", "/v2/a/b/manifests/.x", nil).fails(400, "MANIFEST_INVALID")
		c.ask("GET", "/v2/a/b/manifests/sha256:12", nil).fails(400, "DIGEST_INVALID")
		c.ask("GET", "/v2/a/b/manifests/"+strings.Repeat("t", 129), nil).fails(400, "MANIFEST_INVALID")
	})
	t.Run("a name of another form is refused", func(t *testing.T) {
		c.ask("GET", "/v2/A/b/manifests/v1", nil).fails(400, "NAME_INVALID")
		c.ask("GET", "/v2/a__-b/manifests/v1", nil).fails(400, "NAME_INVALID")
	})
	t.Run("a repository that is not there answers 404", func(t *testing.T) {
		c.ask("GET", "/v2/none/manifests/v1", nil).fails(404, "NAME_UNKNOWN")
		c.ask("GET", "/v2/none/blobs/"+layer.Digest, nil).fails(404, "NAME_UNKNOWN")
		c.ask("GET", "/v2/none/tags/list", nil).fails(404, "NAME_UNKNOWN")
	})
	t.Run("GET of a blob answers 200 with its bytes and Docker-Content-Digest", func(t *testing.T) {
		a := c.ask("GET", "/v2/a/b/blobs/"+layer.Digest, nil).is(200).has("Docker-Content-Digest", layer.Digest)
		if !bytes.Equal(a.body, content) {
			t.Fatal("other bytes")
		}
		if a := c.ask("GET", "/v2/a/b/blobs/"+short.Digest, nil).is(200); string(a.body) != "short" {
			t.Fatalf("%q", a.body)
		}
	})
	t.Run("HEAD of a blob answers 200 with Docker-Content-Digest and Content-Length", func(t *testing.T) {
		c.ask("HEAD", "/v2/a/b/blobs/"+layer.Digest, nil).is(200).has("Docker-Content-Digest", layer.Digest).has("Content-Length", "100000")
	})
	t.Run("a blob that is not there answers 404", func(t *testing.T) {
		c.ask("GET", "/v2/a/b/blobs/"+Digest([]byte("x")), nil).fails(404, "BLOB_UNKNOWN")
		c.ask("HEAD", "/v2/a/b/blobs/"+Digest([]byte("x")), nil).is(404)
	})
	t.Run("ranges of a blob follow RFC 9110", func(t *testing.T) {
		a := c.ask("GET", "/v2/a/b/blobs/"+layer.Digest, nil, "Range", "bytes=70000-70004").is(206).has("Content-Range", "bytes 70000-70004/100000")
		if string(a.body) != "layer" {
			t.Fatalf("%q", a.body)
		}
		c.ask("GET", "/v2/a/b/blobs/"+layer.Digest, nil, "Range", "bytes=-5").is(206).has("Content-Range", "bytes 99995-99999/100000")
		c.ask("GET", "/v2/a/b/blobs/"+layer.Digest, nil, "Range", "bytes=100000-").is(416)
	})
	t.Run("a layer of another repository is not this one's", func(t *testing.T) {
		c.repo("other")
		c.ask("GET", "/v2/other/blobs/"+layer.Digest, nil).fails(404, "BLOB_UNKNOWN")
	})
	t.Run("an unknown endpoint or method is refused", func(t *testing.T) {
		c.ask("GET", "/v2/a/b/else", nil).fails(404, "UNSUPPORTED")
		c.ask("POST", "/v2/a/b/manifests/v1", nil).fails(405, "UNSUPPORTED").has("Allow", "GET, HEAD, PUT, DELETE")
		c.ask("DELETE", "/v2/", nil).fails(405, "UNSUPPORTED")
	})
}

func TestSpecAccept(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	image := c.tagged("a", "image", "one", nil)
	d := Descriptor{MediaType: OCIManifest, Digest: Digest(image), Size: int64(len(image)), Platform: &Platform{OS: "linux", Architecture: "amd64"}}
	index := marshal(t, map[string]any{"schemaVersion": 2, "mediaType": OCIIndex, "manifests": []Descriptor{d}})
	c.ask("PUT", "/v2/a/manifests/multi", bytes.NewReader(index), "Content-Type", OCIIndex).is(201)
	for _, accept := range []string{"", "*/*", OCIIndex, OCIManifest + ", " + OCIIndex, "application/json"} {
		c.ask("GET", "/v2/a/manifests/multi", nil, "Accept", accept).is(200).has("Content-Type", OCIIndex)
	}
	// From before there were indexes.
	c.ask("GET", "/v2/a/manifests/multi", nil, "Accept", OCIManifest).is(200).has("Content-Type", OCIManifest).has("Docker-Content-Digest", d.Digest)
	c.ask("GET", "/v2/a/manifests/image", nil, "Accept", DockerManifest).fails(404, "MANIFEST_UNKNOWN")
	// Whoever names a digest gets those bytes.
	c.ask("GET", "/v2/a/manifests/"+Digest(index), nil, "Accept", OCIManifest).is(200).has("Content-Type", OCIIndex)
}

func TestSpecTags(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	var list struct {
		Name string
		Tags []string
	}
	want := func(path, tags string) *answer {
		t.Helper()
		a := c.ask("GET", path, nil).is(200)
		a.into(&list)
		if got := strings.Join(list.Tags, " "); got != tags || list.Tags == nil || list.Name != "a" {
			t.Fatalf("%s: %s", path, a.body)
		}
		return a
	}
	t.Run("a repository without tags answers 200 and an empty list", func(t *testing.T) { want("/v2/a/tags/list", "") })
	body := c.manifest("a", "one", nil)
	for _, tag := range []string{"b", "B", "a10", "a9", "c"} {
		c.ask("PUT", "/v2/a/manifests/"+tag, bytes.NewReader(body)).is(201)
	}
	t.Run("tags are in lexical order", func(t *testing.T) { want("/v2/a/tags/list", "B a10 a9 b c").has("Link", "") })
	t.Run("n tags, with a Link while there are more", func(t *testing.T) {
		a := want("/v2/a/tags/list?n=2", "B a10").has("Link", `</v2/a/tags/list?last=a10&n=2>; rel="next"`)
		link := strings.TrimSuffix(strings.TrimPrefix(a.header.Get("Link"), "<"), `>; rel="next"`)
		a = want(link, "a9 b")
		link = strings.TrimSuffix(strings.TrimPrefix(a.header.Get("Link"), "<"), `>; rel="next"`)
		want(link, "c").has("Link", "")
		want("/v2/a/tags/list?n=5", "B a10 a9 b c").has("Link", "")
	})
	t.Run("n of zero answers an empty list without a Link", func(t *testing.T) { want("/v2/a/tags/list?n=0", "").has("Link", "") })
	t.Run("last is a tag, and not included", func(t *testing.T) {
		want("/v2/a/tags/list?last=a9", "b c")
		want("/v2/a/tags/list?last=aa&n=1", "b")
		want("/v2/a/tags/list?last=zz", "")
	})
	t.Run("n that is no number is refused", func(t *testing.T) {
		c.ask("GET", "/v2/a/tags/list?n=x", nil).is(400)
		c.ask("GET", "/v2/a/tags/list?n=-1", nil).is(400)
	})
}

func TestCatalogue(t *testing.T) {
	c := newClient(t)
	for _, n := range []string{"b", "a/x", "a"} {
		c.repo(n)
	}
	c.create(&Repository{Repo: Repo{account, "us-east-1", "elsewhere"}})
	var list struct{ Repositories []string }
	c.ask("GET", "/v2/_catalog", nil).is(200).into(&list)
	if got := strings.Join(list.Repositories, " "); got != "a a/x b" {
		t.Fatal(got)
	}
	c.ask("GET", "/v2/_catalog?n=2", nil).is(200).has("Link", `</v2/_catalog?last=a%2Fx&n=2>; rel="next"`).into(&list)
	c.ask("GET", "/v2/_catalog?n=2&last=a%2Fx", nil).is(200).has("Link", "").into(&list)
	if got := strings.Join(list.Repositories, " "); got != "b" {
		t.Fatal(got)
	}
}
