package s3

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// modelVersion is a version in the simplest possible S3.
type modelVersion struct {
	id, body string
	marker   bool
}

// model is the simplest possible S3: for each key its versions, the newest first.
type model struct {
	state string
	keys  map[string][]modelVersion
}

func (m *model) put(key string, v modelVersion) {
	chain := m.keys[key]
	if v.id == nullVersion {
		chain = slices.DeleteFunc(chain, func(o modelVersion) bool { return o.id == nullVersion })
	}
	m.keys[key] = append([]modelVersion{v}, chain...)
}

func (m *model) drop(key, id string) {
	m.keys[key] = slices.DeleteFunc(m.keys[key], func(o modelVersion) bool { return o.id == id })
	if len(m.keys[key]) == 0 {
		delete(m.keys, key)
	}
}

// Random writes, deletes and changes of versioning must leave what the model has.
func TestVersionsAgainstModel(t *testing.T) {
	for seed := range uint64(4) {
		h := newHarness(t)
		h.make("bucket", false)
		m := &model{keys: map[string][]modelVersion{}}
		rnd := rand.New(rand.NewPCG(seed, 1))
		for i := range 150 {
			key := string(rune('a' + rnd.IntN(3)))
			switch rnd.IntN(10) {
			case 0:
				m.state = []string{"Enabled", "Suspended"}[rnd.IntN(2)]
				do[s3.PutBucketVersioningOutput](h, h.root, &s3.PutBucketVersioningInput{Bucket: wire.Ptr("bucket"), VersioningConfiguration: &s3.VersioningConfiguration{Status: &m.state}})
			case 1, 2:
				out := do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: &key})
				if m.state == "" {
					m.drop(key, nullVersion)
				} else {
					m.put(key, modelVersion{value(out.VersionId), "", true})
				}
			case 3, 4:
				if chain := m.keys[key]; len(chain) > 0 {
					id := chain[rnd.IntN(len(chain))].id
					do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: &key, VersionId: &id})
					m.drop(key, id)
				}
			default:
				body := strings.Repeat(fmt.Sprint(i), 1+rnd.IntN(9000))
				id := value(h.put("bucket", key, body).VersionId)
				if id == "" {
					id = nullVersion
				}
				m.put(key, modelVersion{id, body, false})
			}
			if rnd.IntN(3) == 0 {
				h.clock.Advance(time.Second)
			}
		}
		h.compare(m, seed)
	}
}

func (h *harness) compare(m *model, seed uint64) {
	h.t.Helper()
	var want, got []string
	bodies := 0
	for _, key := range []string{"a", "b", "c"} {
		for i, v := range m.keys[key] {
			want = append(want, fmt.Sprint(key, v.id, v.marker, i == 0))
			if v.marker {
				continue
			}
			bodies++
			out := do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: &key, VersionId: &v.id})
			if h.read(out) != v.body {
				h.t.Errorf("seed %d: %s %s has another body", seed, key, v.id)
			}
		}
	}
	// One at a time, so that the markers are tested as well.
	in := &s3.ListObjectVersionsInput{Bucket: wire.Ptr("bucket"), MaxKeys: wire.Ptr(int32(1))}
	for {
		out := do[s3.ListObjectVersionsOutput](h, h.root, in)
		for _, v := range out.Versions {
			got = append(got, fmt.Sprint(*v.Key, *v.VersionId, false, *v.IsLatest))
		}
		for _, v := range out.DeleteMarkers {
			got = append(got, fmt.Sprint(*v.Key, *v.VersionId, true, *v.IsLatest))
		}
		if !*out.IsTruncated {
			break
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("seed %d: versions\n%s\nwant\n%s", seed, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	h.sweep()
	if n := h.contentRows(); n != bodies {
		h.t.Errorf("seed %d: %d contents for %d bodies", seed, n, bodies)
	}
}

func TestDeleteMarkers(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", true)
	v1 := h.put("bucket", "k", "1").VersionId
	d := do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")})
	if !value(d.DeleteMarker) || d.VersionId == nil {
		t.Fatalf("delete answers %+v", d)
	}
	err := refuse(h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")}, "NoSuchKey")
	if e := err.(*awserr.Error); e.Header["x-amz-delete-marker"] != "true" || e.Header["x-amz-version-id"] != *d.VersionId {
		t.Errorf("headers %v", e.Header)
	}
	refuse(h, h.root, &s3.HeadObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), VersionId: d.VersionId}, "MethodNotAllowed")
	refuse(h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), VersionId: wire.Ptr("nonsense")}, "InvalidArgument")
	refuse(h, h.root, &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("x"), VersionId: v1}, "NoSuchVersion")
	refuse(h, h.root, &s3.DeleteBucketInput{Bucket: wire.Ptr("bucket")}, "BucketNotEmpty")
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), VersionId: d.VersionId})
	if got := h.get("bucket", "k"); got != "1" {
		t.Errorf("got %q", got)
	}
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), VersionId: v1})
	do[s3.DeleteBucketOutput](h, h.root, &s3.DeleteBucketInput{Bucket: wire.Ptr("bucket")})
}

// Of many writers that all want to be the first, exactly one is.
func TestConditionalWriteRace(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := []string{}
	for i := range 16 {
		wg.Go(func() {
			body := strings.Repeat(fmt.Sprint(i), 3000*(i%8+1))
			_, err := h.invoke(t.Context(), h.root, "PutObject", &s3.PutObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), Body: strings.NewReader(body), IfNoneMatch: wire.Ptr("*")})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, body)
			} else if awserr.Code(err) != "PreconditionFailed" {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 || h.get("bucket", "k") != won[0] {
		t.Errorf("%d writers were the first", len(won))
	}
	if n := h.blobs(); n > 1 {
		t.Errorf("%d blobs are left", n)
	}
}

// Readers see one whole body or another while it is overwritten.
func TestOverwriteRace(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	bodies := []string{strings.Repeat("a", 40_000), strings.Repeat("b", 70_000), strings.Repeat("c", 10)}
	h.put("bucket", "k", bodies[0])
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 20 {
				if i < 2 {
					_, err := h.invoke(t.Context(), h.root, "PutObject", &s3.PutObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k"), Body: strings.NewReader(bodies[(n+i)%3])})
					if err != nil {
						t.Error(err)
					}
					continue
				}
				out, err := h.invoke(t.Context(), h.root, "GetObject", &s3.GetObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("k")})
				if err != nil {
					t.Error(err)
					continue
				}
				if got := h.read(out.(*s3.GetObjectOutput)); !slices.Contains(bodies, got) {
					t.Errorf("read %d bytes that nobody wrote", len(got))
				}
			}
		})
	}
	wg.Wait()
}
