package ecr

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/registry"
	"skerry/internal/store"
)

// ids writes image ids in short: tag@number of the digest.
func (h *harness) ids(digests []string, all []api.ImageIdentifier) string {
	var out []string
	for _, i := range all {
		s := ""
		if i.ImageTag != nil {
			s = *i.ImageTag
		}
		for n, d := range digests {
			if i.ImageDigest != nil && d == *i.ImageDigest {
				s += fmt.Sprint("@", n)
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func failures(all []api.ImageFailure) string {
	var out []string
	for _, f := range all {
		out = append(out, *f.FailureCode+": "+*f.FailureReason)
	}
	return strings.Join(out, "\n")
}

func TestPutImage(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	body := h.manifest("app", "1", []byte("layer"))
	in := &api.PutImageInput{RepositoryName: new("app"), ImageManifest: &body, ImageTag: new("v1")}
	out := do(h, h.PutImage, in).Image
	digest := registry.Digest([]byte(body))
	is(h, "digest", *out.ImageId.ImageDigest, digest)
	is(h, "media type", *out.ImageManifestMediaType, registry.OCIManifest)
	refuse(h, h.PutImage, in, "ImageAlreadyExistsException",
		"Image with digest '"+digest+"' and tag 'v1' already exists in the repository with name 'app' in registry with id '123456789012'")
	in.ImageTag = new("v2")
	do(h, h.PutImage, in)
	in.ImageTag, in.ImageDigest = nil, new("sha256:"+strings.Repeat("0", 64))
	refuse(h, h.PutImage, in, "ImageDigestDoesNotMatchException", "")
	in.ImageDigest, in.ImageManifest = nil, new(`{"schemaVersion":1}`)
	refuse(h, h.PutImage, in, "InvalidParameterException", "")
	in.RepositoryName, in.ImageManifest = new("none"), &body
	refuse(h, h.PutImage, in, "RepositoryNotFoundException", "")
	gone := "sha256:" + strings.Repeat("1", 64)
	in.RepositoryName, in.ImageManifest = new("app"), new(strings.ReplaceAll(body, registry.Digest([]byte("layer")), gone))
	refuse(h, h.PutImage, in, "LayersNotFoundException",
		"Layers with digests '["+gone+"]' required for pushing image into repository with name 'app' in the registry with id '123456789012' do not exist")
	in.ImageManifest = new(h.index(gone))
	refuse(h, h.PutImage, in, "ReferencedImagesNotFoundException", "")
}

func TestBatchGetImage(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	one, two := h.image("app", "1", []byte("layer"), "v1"), h.image("app", "2", []byte("layer"), "v2")
	id := func(digest, tag string) (i api.ImageIdentifier) {
		if digest != "" {
			i.ImageDigest = &digest
		}
		if tag != "" {
			i.ImageTag = &tag
		}
		return i
	}
	out := do(h, h.BatchGetImage, &api.BatchGetImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{
		id(one, ""), id("", "v2"), id(two, "v2"), id("", ""), id("md5", ""), id("", "a b"), id(one, "v2"), id("", "v3"), id("sha256:"+strings.Repeat("2", 64), ""),
	}})
	var got []api.ImageIdentifier
	for _, i := range out.Images {
		got = append(got, *i.ImageId)
		if registry.Digest([]byte(*i.ImageManifest)) != *i.ImageId.ImageDigest {
			t.Error("not the image's manifest")
		}
	}
	is(h, "images", h.ids([]string{one, two}, got), "@0 v2@1 v2@1")
	is(h, "failures", failures(out.Failures), strings.Join([]string{
		"MissingDigestAndTag: Invalid request parameters: both tag and digest cannot be null",
		"InvalidImageDigest: Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
		"InvalidImageTag: Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'",
		"ImageTagDoesNotMatchDigest: Requested image tag does not match the image digest",
		"ImageNotFound: Requested image not found", "ImageNotFound: Requested image not found",
	}, "\n"))
	out = do(h, h.BatchGetImage, &api.BatchGetImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{id(one, "")}, AcceptedMediaTypes: []string{registry.DockerManifest}})
	is(h, "accepted", len(out.Images), 0)
	refuse(h, h.BatchGetImage, &api.BatchGetImageInput{RepositoryName: new("none"), ImageIds: []api.ImageIdentifier{id(one, "")}}, "RepositoryNotFoundException", "")
}

func TestBatchDeleteImage(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	one := h.image("app", "1", []byte("layer"), "v1", "latest", "stable")
	two := h.image("app", "2", []byte("layer"))
	list := h.put("app", h.index(one, two), "list")
	digests := []string{one, two, list}
	del := func(ids ...api.ImageIdentifier) *api.BatchDeleteImageOutput {
		return do(h, h.BatchDeleteImage, &api.BatchDeleteImageInput{RepositoryName: new("app"), ImageIds: ids})
	}
	left := func() string {
		return h.ids(digests, do(h, h.ListImages, &api.ListImagesInput{RepositoryName: new("app")}).ImageIds)
	}
	is(h, "untagged", h.ids(digests, del(api.ImageIdentifier{ImageTag: new("latest")}).ImageIds), "latest@0")
	out := del(api.ImageIdentifier{ImageDigest: &one})
	is(h, "kept", failures(out.Failures), "ImageReferencedByManifestList: Requested image referenced by manifest list: ["+list+"]")
	is(h, "failures", failures(del(api.ImageIdentifier{}, api.ImageIdentifier{ImageTag: new("none")}).Failures),
		"MissingDigestAndTag: Invalid request parameters: both tag and digest cannot be null\nImageNotFound: Requested image not found")
	// The list is named last, and goes first.
	is(h, "all", h.ids(digests, del(api.ImageIdentifier{ImageDigest: &one}, api.ImageIdentifier{ImageDigest: &two}, api.ImageIdentifier{ImageTag: new("list")}).ImageIds),
		"list@2 stable@0 v1@0 @1")
	is(h, "left", left(), "")
	three := h.image("app", "3", []byte("layer"), "only")
	is(h, "last tag", h.ids([]string{three}, del(api.ImageIdentifier{ImageTag: new("only")}).ImageIds), "only@0")
	is(h, "left", left(), "")
}

func TestListings(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	var digests []string
	for i := range 6 {
		var tags []string
		if i%2 == 0 {
			tags = []string{fmt.Sprint("a", i), fmt.Sprint("b", i), fmt.Sprint("c", i)}
		}
		digests = append(digests, h.image("app", fmt.Sprint(i), []byte("layer"), tags...))
	}
	pages := func(size int32, filter *api.ListImagesFilter) map[string]bool {
		all, in := map[string]bool{}, &api.ListImagesInput{RepositoryName: new("app"), MaxResults: &size, Filter: filter}
		for {
			out := do(h, h.ListImages, in)
			if len(out.ImageIds) > int(size) || len(out.ImageIds) == 0 {
				t.Errorf("a page of %d", len(out.ImageIds))
			}
			for _, i := range out.ImageIds {
				s := h.ids(digests, []api.ImageIdentifier{i})
				if all[s] {
					t.Errorf("%s twice", s)
				}
				all[s] = true
			}
			if in.NextToken = out.NextToken; in.NextToken == nil {
				return all
			}
		}
	}
	for size := int32(1); size < 14; size++ {
		is(h, fmt.Sprint("pages of ", size), len(pages(size, nil)), 12)
	}
	is(h, "tagged", len(pages(2, &api.ListImagesFilter{TagStatus: new("TAGGED")})), 9)
	is(h, "untagged", len(pages(2, &api.ListImagesFilter{TagStatus: new("UNTAGGED")})), 3)

	seen, in := 0, &api.DescribeImagesInput{RepositoryName: new("app"), MaxResults: new(int32(4)), Filter: &api.DescribeImagesFilter{TagStatus: new("ANY")}}
	for {
		out := do(h, h.DescribeImages, in)
		seen += len(out.ImageDetails)
		if in.NextToken = out.NextToken; in.NextToken == nil {
			break
		}
	}
	is(h, "described", seen, 6)
	one := do(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageTag: new("b2")}, {ImageTag: new("c2")}}}).ImageDetails
	is(h, "named", len(one), 1)
	d := one[0]
	is(h, "tags", strings.Join(d.ImageTags, " "), "a2 b2 c2")
	is(h, "size", *d.ImageSizeInBytes, int64(len(`{"seed":"2"}`)+len("layer")))
	is(h, "type", *d.ArtifactMediaType, "application/vnd.oci.image.config.v1+json")
	is(h, "status", *d.ImageStatus, "ACTIVE")
	is(h, "pushed", *d.ImagePushedAt, h.clock.Now())
	refuse(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageTag: new("none")}}}, "ImageNotFoundException", "")
	refuse(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app"), MaxResults: new(int32(1)), ImageIds: []api.ImageIdentifier{{ImageTag: new("b2")}}}, "InvalidParameterException", "")
}

func TestArchive(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	digest := h.image("app", "1", []byte("layer"), "v1")
	move := func(to string) *api.UpdateImageStorageClassInput {
		return &api.UpdateImageStorageClassInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageTag: new("v1")}, TargetStorageClass: &to}
	}
	refuse(h, h.UpdateImageStorageClass, move("STANDARD"), "ImageStorageClassUpdateNotSupportedException", "")
	is(h, "archived", *do(h, h.UpdateImageStorageClass, move("ARCHIVE")).ImageStatus, "ARCHIVED")
	is(h, "pull", h.pull(h.scope, "GET", "/v2/app/manifests/v1"), 404)
	out := do(h, h.BatchGetImage, &api.BatchGetImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageTag: new("v1")}}})
	is(h, "failure", *out.Failures[0].FailureCode, "ImageInaccessible")
	is(h, "listed", len(do(h, h.ListImages, &api.ListImagesInput{RepositoryName: new("app")}).ImageIds), 0)
	is(h, "listed", len(do(h, h.ListImages, &api.ListImagesInput{RepositoryName: new("app"), Filter: &api.ListImagesFilter{ImageStatus: new("ARCHIVED")}}).ImageIds), 1)
	is(h, "named", *do(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageDigest: &digest}}}).ImageDetails[0].ImageStatus, "ARCHIVED")
	refuse(h, h.StartImageScan, &api.StartImageScanInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageTag: new("v1")}}, "ImageArchivedException", "")
	l := do(h, h.BatchCheckLayerAvailability, &api.BatchCheckLayerAvailabilityInput{RepositoryName: new("app"), LayerDigests: []string{registry.Digest([]byte("layer"))}}).Layers[0]
	is(h, "layer", *l.LayerAvailability, "ARCHIVED")
	h.clock.Advance(time.Hour)
	is(h, "restored", *do(h, h.UpdateImageStorageClass, move("STANDARD")).ImageStatus, "ACTIVE")
	is(h, "pull", h.pull(h.scope, "GET", "/v2/app/manifests/v1"), 200)
	d := do(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app")}).ImageDetails[0]
	is(h, "times", d.LastActivatedAt.Sub(*d.LastArchivedAt), time.Hour)
}

func TestReferrers(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	subject := h.image("app", "1", []byte("layer"), "v1")
	about := func(kind string) string {
		config := h.layer("app", []byte("{}"))
		config.MediaType = "application/vnd.oci.empty.v1+json"
		return h.json(map[string]any{
			"schemaVersion": 2, "mediaType": registry.OCIManifest, "artifactType": kind, "config": config, "layers": []registry.Descriptor{h.layer("app", []byte(kind))},
			"subject": registry.Descriptor{MediaType: registry.OCIManifest, Digest: subject, Size: 1}, "annotations": map[string]string{"kind": kind},
		})
	}
	for _, kind := range []string{"sbom", "signature"} {
		do(h, h.PutImage, &api.PutImageInput{RepositoryName: new("app"), ImageManifest: new(about(kind))})
	}
	in := &api.ListImageReferrersInput{RepositoryName: new("app"), SubjectId: &api.SubjectIdentifier{ImageDigest: &subject}, MaxResults: new(int32(1))}
	first := do(h, h.ListImageReferrers, in)
	in.NextToken = first.NextToken
	second := do(h, h.ListImageReferrers, in)
	is(h, "pages", len(first.Referrers)+len(second.Referrers), 2)
	is(h, "end", second.NextToken == nil, true)
	out := do(h, h.ListImageReferrers, &api.ListImageReferrersInput{RepositoryName: new("app"), SubjectId: &api.SubjectIdentifier{ImageDigest: &subject}, Filter: &api.ListImageReferrersFilter{ArtifactTypes: []string{"sbom"}}})
	is(h, "filtered", len(out.Referrers), 1)
	is(h, "annotation", out.Referrers[0].Annotations["kind"], "sbom")
	for _, d := range do(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app"), Filter: &api.DescribeImagesFilter{TagStatus: new("UNTAGGED")}}).ImageDetails {
		is(h, "subject", *d.SubjectManifestDigest, subject)
	}
	refuse(h, h.StartImageScan, &api.StartImageScanInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageDigest: first.Referrers[0].Digest}}, "UnsupportedImageTypeException", "")
}

// An image made by the API alone: its layer in parts, its link followed.
func TestLayers(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	content := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16+100)
	digest := registry.Digest(content)
	start := do(h, h.InitiateLayerUpload, &api.InitiateLayerUploadInput{RepositoryName: new("app")})
	is(h, "part size", *start.PartSize, int64(20<<20))
	part := func(upload *string, first, last int, b []byte) *api.UploadLayerPartInput {
		return &api.UploadLayerPartInput{RepositoryName: new("app"), UploadId: upload, PartFirstByte: new(int64(first)), PartLastByte: new(int64(last)), LayerPartBlob: b}
	}
	complete := func(upload *string, digests ...string) *api.CompleteLayerUploadInput {
		return &api.CompleteLayerUploadInput{RepositoryName: new("app"), UploadId: upload, LayerDigests: digests}
	}
	refuse(h, h.CompleteLayerUpload, complete(start.UploadId, digest), "EmptyUploadException",
		"The upload with id '"+*start.UploadId+"' in the repository with name 'app' in registry with id '123456789012' cannot be completed because it does not have any parts")
	cut := 5 << 20
	is(h, "received", *do(h, h.UploadLayerPart, part(start.UploadId, 0, cut-1, content[:cut])).LastByteReceived, int64(cut-1))
	for _, bad := range []*api.UploadLayerPartInput{
		part(start.UploadId, 0, cut-1, content[:cut]),                // came already
		part(start.UploadId, cut+1, len(content)-1, content[cut+1:]), // leaves a byte out
		part(start.UploadId, cut, len(content), content[cut:]),       // says more than it is
		part(start.UploadId, cut, cut-1, nil),                        // is nothing
	} {
		_, err := told(h.UploadLayerPart)(t.Context(), h.scope, bad)
		e, ok := errors.AsType[*api.InvalidLayerPartException](err)
		if !ok || *e.LastValidByteReceived != int64(cut-1) || *e.UploadId != *start.UploadId || *e.RepositoryName != "app" || *e.RegistryId != account {
			t.Errorf("got %v %+v", err, e)
		}
	}
	do(h, h.UploadLayerPart, part(start.UploadId, cut, len(content)-1, content[cut:]))
	refuse(h, h.CompleteLayerUpload, complete(start.UploadId, registry.Digest(nil)), "InvalidLayerException", "None of the provided layer digests match the calculated layer digest")
	is(h, "digest", *do(h, h.CompleteLayerUpload, complete(start.UploadId, registry.Digest(nil), digest)).LayerDigest, digest)
	refuse(h, h.CompleteLayerUpload, complete(start.UploadId, digest), "UploadNotFoundException", "")

	again := do(h, h.InitiateLayerUpload, &api.InitiateLayerUploadInput{RepositoryName: new("app")})
	do(h, h.UploadLayerPart, part(again.UploadId, 0, 9, content[:10]))
	refuse(h, h.CompleteLayerUpload, complete(again.UploadId, digest), "LayerAlreadyExistsException", "Layer with digest '"+digest+"' already exists in the repository with name 'app' in registry with id '123456789012'")
	do(h, h.UploadLayerPart, part(again.UploadId, 10, 19, content[10:20]))
	refuse(h, h.CompleteLayerUpload, complete(again.UploadId, registry.Digest(content[:20])), "LayerPartTooSmallException", "")

	link := &api.GetDownloadUrlForLayerInput{RepositoryName: new("app"), LayerDigest: &digest}
	refuse(h, h.GetDownloadUrlForLayer, link, "LayerInaccessibleException", "")
	refuse(h, h.GetDownloadUrlForLayer, &api.GetDownloadUrlForLayerInput{RepositoryName: new("app"), LayerDigest: new("sha256:" + strings.Repeat("3", 64))}, "LayersNotFoundException", "")
	h.image("app", "1", content, "v1")
	out := do(h, h.BatchCheckLayerAvailability, &api.BatchCheckLayerAvailabilityInput{RepositoryName: new("app"), LayerDigests: []string{digest, "sha256:" + strings.Repeat("3", 64), "bad"}})
	is(h, "layers", *out.Layers[0].LayerAvailability+" "+*out.Layers[0].MediaType+" "+*out.Layers[1].LayerAvailability+" "+*out.Failures[0].FailureCode,
		"AVAILABLE application/vnd.oci.image.layer.v1.tar UNAVAILABLE InvalidLayerDigest")
	url := *do(h, h.GetDownloadUrlForLayer, link).DownloadUrl
	get := func() (int, []byte) {
		resp, err := http.Get(h.server.URL + strings.TrimPrefix(url, h.Registry.Endpoint(account, region)))
		h.must(err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		h.must(err)
		return resp.StatusCode, b
	}
	status, b := get()
	is(h, "link", status, 200)
	is(h, "content", bytes.Equal(b, content), true)
	h.clock.Advance(2 * time.Hour)
	status, _ = get()
	is(h, "after an hour", status, 403)
}

func TestAuthorizationToken(t *testing.T) {
	h := newHarness(t)
	out := do(h, h.GetAuthorizationToken, &api.GetAuthorizationTokenInput{RegistryIds: []string{account, other}})
	is(h, "registries", len(out.AuthorizationData), 2)
	d := out.AuthorizationData[0]
	is(h, "expires", d.ExpiresAt.Sub(h.clock.Now()), 12*time.Hour)
	b, err := base64.StdEncoding.DecodeString(*d.AuthorizationToken)
	h.must(err)
	user, password, _ := strings.Cut(string(b), ":")
	is(h, "user", user, "AWS")
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/v2/", http.NoBody)
	h.must(err)
	req.SetBasicAuth(user, password)
	resp, err := http.DefaultClient.Do(req)
	h.must(err)
	h.must(resp.Body.Close())
	is(h, "login", resp.StatusCode, 200)
}

// Storage is metered by the hour, a layer of two images once.
func TestStorage(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	h.image("app", "1", bytes.Repeat([]byte("x"), 1000), "v1")
	h.image("app", "2", bytes.Repeat([]byte("x"), 1000), "v2")
	run := func() string {
		report, err := h.meterStorage(t.Context())
		h.must(err)
		return report
	}
	is(h, "first", run(), "0 records")
	h.clock.Advance(90 * time.Minute)
	is(h, "after an hour", run(), "1 records")
	is(h, "again", run(), "0 records")
	do(h, h.UpdateImageStorageClass, &api.UpdateImageStorageClassInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageTag: new("v2")}, TargetStorageClass: new("ARCHIVE")})
	h.clock.Advance(time.Hour)
	is(h, "with an archive", run(), "2 records")
	sums := map[string]int64{}
	h.must(h.Store.View(t.Context(), func(tx *store.Tx) error {
		for l, err := range h.Meter.Lines(tx, account, h.clock.Now().Add(-24*time.Hour), h.clock.Now().Add(time.Hour)) {
			h.must(err)
			sums[l.Type] += l.Quantity
		}
		return nil
	}))
	body := int64(len(h.manifest("app", "1", bytes.Repeat([]byte("x"), 1000))))
	one := body + int64(len(`{"seed":"1"}`))
	is(h, "standard", sums["TimedStorage-ByteHrs"], 2*one+1000+one+1000)
	is(h, "archive", sums["TimedStorage-Archive-ByteHrs"], one)
}
