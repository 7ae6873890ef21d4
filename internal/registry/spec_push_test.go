package registry

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"skerry/internal/store"
)

func TestSpecPushBlob(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	content := bytes.Repeat([]byte("0123456789"), 10_000)
	digest := Digest(content)
	pullable := func(t *testing.T, a *answer, content []byte) {
		t.Helper()
		if got := c.ask("GET", a.location(), nil).is(200); !bytes.Equal(got.body, content) {
			t.Fatal("other bytes")
		}
	}
	t.Run("POST answers 202 and a Location with a session id", func(t *testing.T) {
		a := c.ask("POST", "/v2/a/blobs/uploads/", nil).is(202).has("Range", "0-0")
		if id := a.header.Get("Docker-Upload-Uuid"); len(id) != 36 || !strings.HasSuffix(a.location(), id) {
			t.Fatal(a.header)
		}
		c.ask("POST", "/v2/none/blobs/uploads/", nil).fails(404, "NAME_UNKNOWN")
	})
	t.Run("POST then PUT answers 201 and a pullable Location", func(t *testing.T) {
		pullable(t, c.ask("PUT", with(c.start("a"), "digest="+digest), bytes.NewReader(content)).is(201), content)
	})
	t.Run("a single POST answers 201 and a pullable Location", func(t *testing.T) {
		pullable(t, c.ask("POST", "/v2/a/blobs/uploads/?digest="+Digest([]byte("x")), strings.NewReader("x")).is(201), []byte("x"))
	})
	t.Run("a digest that is not the content's answers 400", func(t *testing.T) {
		other := Digest([]byte("other"))
		c.ask("PUT", with(c.start("a"), "digest="+other), bytes.NewReader(content)).fails(400, "DIGEST_INVALID")
		c.ask("PUT", with(c.start("a"), "digest="+other), strings.NewReader("short")).fails(400, "DIGEST_INVALID")
		c.ask("POST", "/v2/a/blobs/uploads/?digest="+other, strings.NewReader("x")).fails(400, "DIGEST_INVALID")
		c.ask("GET", "/v2/a/blobs/"+other, nil).fails(404, "BLOB_UNKNOWN")
	})
	t.Run("a digest by an unknown algorithm, a malformed one and none answer 400", func(t *testing.T) {
		for _, d := range []string{"md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:xyz", "sha256", "", "sha256:" + strings.Repeat("A", 64)} {
			c.ask("PUT", with(c.start("a"), "digest="+d), strings.NewReader("x")).fails(400, "DIGEST_INVALID")
		}
		c.ask("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", nil).fails(400, "DIGEST_INVALID")
	})
	t.Run("SHA-512 is a digest like another", func(t *testing.T) {
		for _, content := range [][]byte{[]byte("short"), content} {
			sum := sha512.Sum512(content)
			digest := "sha512:" + hex.EncodeToString(sum[:])
			a := c.ask("PUT", with(c.ask("POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", nil).is(202).location(), "digest="+digest), bytes.NewReader(content))
			pullable(t, a.is(201).has("Docker-Content-Digest", digest), content)
			sum[0]++
			c.ask("PUT", with(c.start("a"), "digest=sha512:"+hex.EncodeToString(sum[:])), bytes.NewReader(content)).fails(400, "DIGEST_INVALID")
		}
	})
	t.Run("the empty blob can be pushed", func(t *testing.T) {
		pullable(t, c.ask("PUT", with(c.start("a"), "digest="+Digest(nil)), nil).is(201), nil)
	})
	t.Run("a stream without a length is a chunk", func(t *testing.T) {
		l := c.ask("PATCH", c.start("a"), io.MultiReader(bytes.NewReader(content))).is(202).has("Range", "0-99999").location()
		pullable(t, c.ask("PUT", with(l, "digest="+digest), nil).is(201), content)
	})
}

func TestSpecPushChunks(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	content := bytes.Repeat([]byte("0123456789"), 10_000)
	chunk := func(l string, from, to int) *answer {
		return c.ask("PATCH", l, bytes.NewReader(content[from:to+1]), "Content-Range", strconv.Itoa(from)+"-"+strconv.Itoa(to))
	}
	t.Run("a chunk answers 202, Location and Range", func(t *testing.T) {
		l := chunk(c.start("a"), 0, 9).is(202).has("Range", "0-9").location()
		l = chunk(l, 10, 49_999).is(202).has("Range", "0-49999").location()
		c.restart() // nothing of it is in memory
		l = chunk(l, 50_000, 99_999).is(202).has("Range", "0-99999").location()
		a := c.ask("PUT", with(l, "digest="+Digest(content)), nil).is(201)
		if got := c.ask("GET", a.location(), nil).is(200); !bytes.Equal(got.body, content) {
			t.Fatal("other bytes")
		}
	})
	t.Run("the closing PUT may hold the last chunk", func(t *testing.T) {
		l := chunk(c.start("a"), 0, 79_999).is(202).location()
		c.ask("PUT", with(l, "digest="+Digest(content)), bytes.NewReader(content[70_000:]), "Content-Range", "70000-99999").fails(416, "BLOB_UPLOAD_INVALID")
		c.ask("PUT", with(l, "digest="+Digest(content)), bytes.NewReader(content[80_000:]), "Content-Range", "80000-99999").is(201)
	})
	t.Run("a chunk out of order answers 416 and where to go on", func(t *testing.T) {
		l := c.start("a")
		chunk(l, 10, 19).fails(416, "BLOB_UPLOAD_INVALID")
		l = chunk(l, 0, 9).is(202).location()
		chunk(l, 0, 9).fails(416, "BLOB_UPLOAD_INVALID").has("Range", "0-9")
		chunk(l, 20, 29).fails(416, "BLOB_UPLOAD_INVALID").has("Range", "0-9")
		chunk(l, 10, 19).is(202)
	})
	t.Run("a malformed Content-Range is refused", func(t *testing.T) {
		l := c.start("a")
		for _, r := range []string{"x", "0", "9-0", "-1", "0-99999999999999999999999"} {
			c.ask("PATCH", l, strings.NewReader("0123456789"), "Content-Range", r).fails(416, "BLOB_UPLOAD_INVALID")
		}
		c.ask("PATCH", l, strings.NewReader("0123456789"), "Content-Range", "0-10").fails(400, "BLOB_UPLOAD_INVALID")
	})
	t.Run("GET of an upload answers 204, Location and Range", func(t *testing.T) {
		l := chunk(c.start("a"), 0, 9).is(202).location()
		c.ask("GET", l, nil).is(204).has("Range", "0-9").has("Location", l)
	})
	t.Run("DELETE of an upload ends it", func(t *testing.T) {
		l := chunk(c.start("a"), 0, 9).is(202).location()
		c.ask("DELETE", l, nil).is(204)
		c.ask("GET", l, nil).fails(404, "BLOB_UPLOAD_UNKNOWN")
		c.ask("PATCH", l, strings.NewReader("x")).fails(404, "BLOB_UPLOAD_UNKNOWN")
		c.ask("PUT", with(l, "digest="+Digest(content)), nil).fails(404, "BLOB_UPLOAD_UNKNOWN")
		c.ask("DELETE", l, nil).fails(404, "BLOB_UPLOAD_UNKNOWN")
	})
	t.Run("an upload has a bounded number of parts", func(t *testing.T) {
		l := c.start("a")
		c.must(c.update(func(tx *store.Tx) error {
			u, err := c.Upload(tx, id("a"), l[strings.LastIndexByte(l, '/')+1:])
			if err != nil {
				return err
			}
			u.Parts = maxParts
			return uploads.Put(tx, u)
		}))
		c.ask("PATCH", l, strings.NewReader("x")).fails(400, "BLOB_UPLOAD_INVALID")
	})
	t.Run("a chunk that breaks off is kept as far as it came", func(t *testing.T) {
		l := c.start("a")
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.server.URL, "http://"))
		c.must(err)
		r, err := http.NewRequest("PATCH", c.server.URL+l, nil)
		c.must(err)
		r.SetBasicAuth("AWS", c.password)
		_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 100000\r\nContent-Range: 0-99999\r\n\r\n%s",
			l, r.Header.Get("Authorization"), content[:60_000])
		c.must(err)
		c.must(conn.Close())
		for end := time.Now().Add(10 * time.Second); c.ask("GET", l, nil).is(204).header.Get("Range") != "0-59999"; {
			if time.Now().After(end) {
				t.Fatal("what came is not there")
			}
			runtime.Gosched()
		}
		chunk(l, 60_000, 99_999).is(202)
		c.ask("PUT", with(l, "digest="+Digest(content)), nil).is(201)
	})
	t.Run("an upload is its repository's alone", func(t *testing.T) {
		c.repo("b")
		l := c.start("a")
		c.ask("PATCH", strings.Replace(l, "/v2/a/", "/v2/b/", 1), strings.NewReader("x")).fails(404, "BLOB_UPLOAD_UNKNOWN")
	})
}

func TestSpecMount(t *testing.T) {
	c := newClient(t)
	c.repo("from")
	c.repo("to")
	d := c.push("from", []byte("layer"))
	t.Run("a mount answers 201 and a pullable Location", func(t *testing.T) {
		a := c.ask("POST", "/v2/to/blobs/uploads/?mount="+d.Digest+"&from=from", nil).is(201).has("Docker-Content-Digest", d.Digest)
		c.ask("GET", a.location(), nil).is(200)
	})
	t.Run("without from, a repository is found", func(t *testing.T) {
		c.repo("to2")
		c.ask("POST", "/v2/to2/blobs/uploads/?mount="+d.Digest, nil).is(201)
	})
	t.Run("what cannot be mounted begins an upload", func(t *testing.T) {
		c.ask("POST", "/v2/to/blobs/uploads/?mount="+Digest([]byte("x"))+"&from=from", nil).is(202).location()
		c.ask("POST", "/v2/to/blobs/uploads/?mount="+d.Digest+"&from=none", nil).is(202).location()
		c.ask("POST", "/v2/to/blobs/uploads/?mount="+Digest([]byte("x")), nil).is(202).location()
	})
}

func TestSpecPushManifest(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	body := c.manifest("a", "one", nil)
	digest := Digest(body)
	put := func(ref string, body []byte, kind string) *answer {
		return c.ask("PUT", "/v2/a/manifests/"+ref, bytes.NewReader(body), "Content-Type", kind)
	}
	t.Run("PUT answers 201, Location and Docker-Content-Digest", func(t *testing.T) {
		for _, ref := range []string{"v1", digest} {
			a := put(ref, body, OCIManifest).is(201).has("Docker-Content-Digest", digest)
			c.ask("GET", a.location(), nil).is(200)
		}
	})
	t.Run("the bytes are kept exactly", func(t *testing.T) {
		odd := append([]byte("\n \t"), append(bytes.ReplaceAll(body, []byte(":"), []byte(" :  ")), '\n')...)
		odd = bytes.ReplaceAll(odd, []byte("sha256 :  "), []byte("sha256:")) // of the digests alone
		put("odd", odd, OCIManifest).is(201)
		if a := c.ask("GET", "/v2/a/manifests/odd", nil).is(200); !bytes.Equal(a.body, odd) {
			t.Fatal("other bytes")
		}
	})
	t.Run("parameters of the Content-Type are ignored", func(t *testing.T) {
		put("p", body, OCIManifest+"; charset=utf-8").is(201)
		c.ask("GET", "/v2/a/manifests/p", nil).has("Content-Type", OCIManifest)
	})
	t.Run("an unknown layer answers MANIFEST_BLOB_UNKNOWN", func(t *testing.T) {
		c.repo("b")
		c.ask("PUT", "/v2/b/manifests/v1", bytes.NewReader(body)).fails(404, "MANIFEST_BLOB_UNKNOWN")
	})
	t.Run("what is not a manifest is refused", func(t *testing.T) {
		for _, bad := range []string{"", "x", "[]", "{}", `{"schemaVersion":1,"fsLayers":[]}`, `{"schemaVersion":2,"config":{},"layers":[]}`,
			`{"schemaVersion":2,"manifests":[],"layers":[]}`, `{"schemaVersion":2,"manifests":[{"digest":"sha256:00"}]}`} {
			put("bad", []byte(bad), OCIManifest).fails(400, "MANIFEST_INVALID")
		}
		put("bad", body, DockerManifest).fails(400, "MANIFEST_INVALID") // its mediaType says otherwise
		put("bad", []byte(`{"schemaVersion":2}`), "application/vnd.docker.distribution.manifest.v1+json").fails(400, "MANIFEST_INVALID")
		put(Digest([]byte("x")), body, OCIManifest).fails(400, "DIGEST_INVALID")
	})
	t.Run("four megabytes are taken, and more answers 413", func(t *testing.T) {
		big := c.manifest("a", "one", map[string]any{"annotations": map[string]string{"x": strings.Repeat("y", MaxManifest-2000)}})
		put("big", big, OCIManifest).is(201)
		if a := c.ask("GET", "/v2/a/manifests/big", nil).is(200); !bytes.Equal(a.body, big) {
			t.Fatal("other bytes")
		}
		put("big", append(big, bytes.Repeat([]byte(" "), MaxManifest)...), OCIManifest).fails(413, "SIZE_INVALID")
	})
	t.Run("a push by digest gives the tags of its parameters", func(t *testing.T) {
		c.ask("PUT", "/v2/a/manifests/"+digest+"?tag=t1&tag=t2", bytes.NewReader(body), "Content-Type", OCIManifest).is(201).has("Oci-Tag", "t1, t2")
		c.ask("GET", "/v2/a/manifests/t2", nil).is(200).has("Docker-Content-Digest", digest)
	})
	t.Run("Docker's schema 2 is kept as it is", func(t *testing.T) {
		docker := bytes.ReplaceAll(body, []byte(OCIManifest), []byte(DockerManifest))
		put("docker", docker, DockerManifest).is(201)
		c.ask("GET", "/v2/a/manifests/docker", nil).is(200).has("Content-Type", DockerManifest)
		list := marshal(t, map[string]any{"schemaVersion": 2, "mediaType": DockerList, "manifests": []Descriptor{{MediaType: DockerManifest, Digest: Digest(docker), Size: int64(len(docker))}}})
		put("list", list, DockerList).is(201)
		c.ask("GET", "/v2/a/manifests/list", nil, "Accept", DockerList).is(200).has("Content-Type", DockerList)
	})
	t.Run("an immutable tag is refused in ECR's words", func(t *testing.T) {
		c.create(&Repository{Repo: id("fixed"), Mutability: Immutable})
		c.tagged("fixed", "v1", "one", nil)
		a := c.ask("PUT", "/v2/fixed/manifests/v1", bytes.NewReader(c.manifest("fixed", "two", nil))).fails(400, "TAG_INVALID")
		if !bytes.Contains(a.body, []byte("The image tag 'v1' already exists in the 'fixed' repository and cannot be overwritten because the tag is immutable.")) {
			t.Fatalf("%s", a.body)
		}
	})
}

func TestSpecReferrers(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	subject := c.manifest("a", "subject", nil) // not pushed yet
	about := map[string]any{"mediaType": OCIManifest, "digest": Digest(subject), "size": len(subject)}
	var list struct {
		SchemaVersion int
		MediaType     string
		Manifests     []Descriptor
	}
	get := func(query string, n int) *answer {
		t.Helper()
		a := c.ask("GET", "/v2/a/referrers/"+Digest(subject)+query, nil).is(200).has("Content-Type", OCIIndex)
		list.Manifests = nil
		a.into(&list)
		if len(list.Manifests) != n || list.MediaType != OCIIndex || list.SchemaVersion != 2 {
			t.Fatalf("%s", a.body)
		}
		return a
	}
	t.Run("none answers 200 and an empty index", func(t *testing.T) { get("", 0) })
	t.Run("a digest of another form answers 400", func(t *testing.T) { c.ask("GET", "/v2/a/referrers/sha256:1", nil).fails(400, "DIGEST_INVALID") })
	sbom := c.manifest("a", "sbom", map[string]any{"subject": about, "artifactType": "application/x.sbom", "annotations": map[string]string{"k": "v"}})
	t.Run("a manifest whose subject is not there is taken, and answers OCI-Subject", func(t *testing.T) {
		c.ask("PUT", "/v2/a/manifests/"+Digest(sbom), bytes.NewReader(sbom)).is(201).has("Oci-Subject", Digest(subject))
	})
	c.tagged("a", "sig", "sig", map[string]any{"subject": about})
	index := marshal(t, map[string]any{"schemaVersion": 2, "mediaType": OCIIndex, "manifests": []Descriptor{}, "subject": about})
	c.ask("PUT", "/v2/a/manifests/"+Digest(index), bytes.NewReader(index), "Content-Type", OCIIndex).is(201).has("Oci-Subject", Digest(subject))
	t.Run("descriptors have the artifact type, the configuration's in its place, and annotations", func(t *testing.T) {
		get("", 3)
		for _, d := range list.Manifests {
			switch d.Digest {
			case Digest(sbom):
				if d.ArtifactType != "application/x.sbom" || d.Annotations["k"] != "v" || d.Size != int64(len(sbom)) || d.MediaType != OCIManifest {
					t.Errorf("%+v", d)
				}
			case Digest(index):
				if d.ArtifactType != "" || d.MediaType != OCIIndex {
					t.Errorf("%+v", d)
				}
			default:
				if d.ArtifactType != "application/vnd.oci.image.config.v1+json" {
					t.Errorf("%+v", d)
				}
			}
		}
	})
	t.Run("a filter is applied and told", func(t *testing.T) {
		get("?artifactType=application/x.sbom", 1).has("Oci-Filters-Applied", "artifactType")
		get("?artifactType=none", 0).has("Oci-Filters-Applied", "artifactType")
		get("", 3).has("Oci-Filters-Applied", "")
	})
	t.Run("one that is deleted is not listed", func(t *testing.T) {
		c.ask("DELETE", "/v2/a/manifests/"+Digest(sbom), nil).is(202)
		get("", 2)
	})
}

func TestSpecDelete(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	body := c.tagged("a", "v1", "one", nil)
	c.tagged("a", "v2", "one", nil)
	layer := Digest([]byte("layer one"))
	t.Run("a tag answers 202, and 404 from then on", func(t *testing.T) {
		c.ask("DELETE", "/v2/a/manifests/v1", nil).is(202)
		c.ask("GET", "/v2/a/manifests/v1", nil).is(404)
		c.ask("GET", "/v2/a/manifests/v2", nil).is(200)
		c.ask("DELETE", "/v2/a/manifests/v1", nil).fails(404, "MANIFEST_UNKNOWN")
	})
	t.Run("a layer of an image is not taken away", func(t *testing.T) { c.ask("DELETE", "/v2/a/blobs/"+layer, nil).fails(400, "DENIED") })
	t.Run("a manifest answers 202, and it and its tags 404 from then on", func(t *testing.T) {
		c.ask("DELETE", "/v2/a/manifests/"+Digest(body), nil).is(202)
		c.ask("GET", "/v2/a/manifests/"+Digest(body), nil).is(404)
		c.ask("GET", "/v2/a/manifests/v2", nil).is(404)
		c.ask("DELETE", "/v2/none/manifests/"+Digest(body), nil).fails(404, "NAME_UNKNOWN")
	})
	t.Run("a blob answers 202, and 404 from then on", func(t *testing.T) {
		c.ask("DELETE", "/v2/a/blobs/"+layer, nil).is(202)
		c.ask("GET", "/v2/a/blobs/"+layer, nil).is(404)
		c.ask("DELETE", "/v2/a/blobs/"+layer, nil).fails(404, "BLOB_UNKNOWN")
	})
}
