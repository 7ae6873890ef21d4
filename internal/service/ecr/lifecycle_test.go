package ecr

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/service/ecr/lifecycle"
	"skerry/internal/store"
)

const keepTwo = `{"rules":[{"rulePriority":1,"description":"the two youngest of each","selection":{"tagStatus":"tagged","tagPrefixList":["v"],"countType":"imageCountMoreThan","countNumber":2},"action":{"type":"expire"}},
	{"rulePriority":2,"selection":{"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":30},"action":{"type":"transition","targetStorageClass":"archive"}}]}`

func (h *harness) applyAll() {
	h.t.Helper()
	_, err := h.applyLifecycles(h.t.Context())
	h.must(err)
}

// tagsLeft are the tags of a repository's images.
func (h *harness) tagsLeft(name, status string) string {
	h.t.Helper()
	var tags []string
	for _, i := range do(h, h.ListImages, &api.ListImagesInput{RepositoryName: &name, Filter: &api.ListImagesFilter{ImageStatus: &status}}).ImageIds {
		if i.ImageTag != nil {
			tags = append(tags, *i.ImageTag)
		} else {
			tags = append(tags, "-")
		}
	}
	slices.Sort(tags)
	return strings.Join(tags, " ")
}

func TestLifecyclePolicy(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	name := new("app")
	missing := "Lifecycle policy does not exist for the repository with name 'app' in the registry with id '123456789012'"
	refuse(h, h.GetLifecyclePolicy, &api.GetLifecyclePolicyInput{RepositoryName: name}, "LifecyclePolicyNotFoundException", missing)
	refuse(h, h.DeleteLifecyclePolicy, &api.DeleteLifecyclePolicyInput{RepositoryName: name}, "LifecyclePolicyNotFoundException", missing)
	refuse(h, h.PutLifecyclePolicy, &api.PutLifecyclePolicyInput{RepositoryName: name, LifecyclePolicyText: new(`{"rules":null}`)}, "InvalidParameterException",
		"Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy validation failure: instance type (null) does not match any allowed primitive type (allowed: [\"array\"])\n'")
	do(h, h.PutLifecyclePolicy, &api.PutLifecyclePolicyInput{RepositoryName: name, LifecyclePolicyText: new(keepTwo)})
	got := do(h, h.GetLifecyclePolicy, &api.GetLifecyclePolicyInput{RepositoryName: name})
	is(h, "text", *got.LifecyclePolicyText, keepTwo)
	is(h, "evaluated", got.LastEvaluatedAt == nil, true)

	for i := range 4 {
		h.image("app", fmt.Sprint(i), []byte("layer"), fmt.Sprint("v", i))
		h.clock.Advance(time.Hour)
	}
	h.image("app", "other", []byte("layer"), "other")
	h.applyAll()
	is(h, "expired", h.tagsLeft("app", "ANY"), "other v2 v3")
	is(h, "evaluated", *do(h, h.GetLifecyclePolicy, &api.GetLifecyclePolicyInput{RepositoryName: name}).LastEvaluatedAt, h.clock.Now())
	h.clock.Advance(31 * 24 * time.Hour)
	h.applyAll()
	is(h, "archived", h.tagsLeft("app", "ARCHIVED"), "other")
	is(h, "of a rule of higher priority", h.tagsLeft("app", "ACTIVE"), "v2 v3")
	is(h, "deleted", *do(h, h.DeleteLifecyclePolicy, &api.DeleteLifecyclePolicyInput{RepositoryName: name}).LifecyclePolicyText, keepTwo)
	h.image("app", "5", []byte("layer"), "v5")
	h.applyAll()
	is(h, "without a policy", h.tagsLeft("app", "ACTIVE"), "v2 v3 v5")
}

// Many images expire in several transactions, and what an index names stays with
// it.
func TestLifecycleOfMany(t *testing.T) {
	h := newHarness(t)
	h.create("app", "bystander")
	for i := range 2*lifecycleBatch + 10 {
		h.image("app", fmt.Sprint(i), []byte("layer"))
	}
	kept := h.image("app", "kept", []byte("layer"))
	h.put("app", h.index(kept), "list")
	h.image("bystander", "1", []byte("layer"))
	text := `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":1},"action":{"type":"expire"}}]}`
	do(h, h.PutLifecyclePolicy, &api.PutLifecyclePolicyInput{RepositoryName: new("app"), LifecyclePolicyText: &text})
	h.clock.Advance(25 * time.Hour)
	report, err := h.applyLifecycles(t.Context())
	h.must(err)
	is(h, "report", report, fmt.Sprintf("%d images of 1 repositories", 2*lifecycleBatch+10))
	is(h, "left", h.tagsLeft("app", "ANY"), "- list")
	is(h, "bystander", h.tagsLeft("bystander", "ANY"), "-")
}

func TestLifecyclePreview(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	name := new("app")
	refuse(h, h.GetLifecyclePolicyPreview, &api.GetLifecyclePolicyPreviewInput{RepositoryName: name}, "LifecyclePolicyPreviewNotFoundException", "")
	refuse(h, h.StartLifecyclePolicyPreview, &api.StartLifecyclePolicyPreviewInput{RepositoryName: name}, "LifecyclePolicyNotFoundException", "")
	refuse(h, h.StartLifecyclePolicyPreview, &api.StartLifecyclePolicyPreviewInput{RepositoryName: name, LifecyclePolicyText: new("x")}, "InvalidParameterException", "")
	for i := range 5 {
		h.image("app", fmt.Sprint(i), []byte("layer"), fmt.Sprint("v", i))
		h.clock.Advance(time.Hour)
	}
	h.image("app", "old", []byte("layer"))
	h.clock.Advance(31 * 24 * time.Hour)
	start := &api.StartLifecyclePolicyPreviewInput{RepositoryName: name, LifecyclePolicyText: new(keepTwo)}
	is(h, "started", *do(h, h.StartLifecyclePolicyPreview, start).Status, "IN_PROGRESS")
	is(h, "woken", strings.Join(h.woken, " "), previewLoop)
	h.woken = nil
	refuse(h, h.StartLifecyclePolicyPreview, start, "LifecyclePolicyPreviewInProgressException", "")
	get := &api.GetLifecyclePolicyPreviewInput{RepositoryName: name}
	is(h, "before the loop", *do(h, h.GetLifecyclePolicyPreview, get).Status, "IN_PROGRESS")
	report, err := h.evaluatePreviews(t.Context())
	h.must(err)
	is(h, "report", report, "1 previews")
	out := do(h, h.GetLifecyclePolicyPreview, get)
	is(h, "status", *out.Status, "COMPLETE")
	is(h, "expiring", *out.Summary.ExpiringImageTotalCount, 3)
	is(h, "archiving", *out.Summary.TransitioningImageTotalCounts[0].ImageTotalCount, 1)
	var got []string
	for _, r := range out.PreviewResults {
		got = append(got, fmt.Sprint(strings.Join(r.ImageTags, ","), "/", *r.AppliedRulePriority, *r.Action.Type, *r.StorageClass))
	}
	is(h, "results", strings.Join(got, " "), "v0/1EXPIRESTANDARD v1/1EXPIRESTANDARD v2/1EXPIRESTANDARD /2TRANSITIONSTANDARD")
	is(h, "nothing is done", h.tagsLeft("app", "ANY"), "- v0 v1 v2 v3 v4")

	count := func(in *api.GetLifecyclePolicyPreviewInput) (n int) {
		in.RepositoryName = name
		for {
			out := do(h, h.GetLifecyclePolicyPreview, in)
			n += len(out.PreviewResults)
			if in.NextToken = out.NextToken; in.NextToken == nil {
				return n
			}
		}
	}
	is(h, "paged", count(&api.GetLifecyclePolicyPreviewInput{MaxResults: new(int32(1))}), 4)
	is(h, "untagged", count(&api.GetLifecyclePolicyPreviewInput{Filter: &api.LifecyclePolicyPreviewFilter{TagStatus: new("UNTAGGED")}}), 1)
	is(h, "tagged, paged", count(&api.GetLifecyclePolicyPreviewInput{MaxResults: new(int32(2)), Filter: &api.LifecyclePolicyPreviewFilter{TagStatus: new("TAGGED")}}), 3)
	is(h, "named", count(&api.GetLifecyclePolicyPreviewInput{ImageIds: []api.ImageIdentifier{{ImageTag: new("v1")}, {ImageTag: new("v4")}}}), 1)
	is(h, "by digest", count(&api.GetLifecyclePolicyPreviewInput{ImageIds: []api.ImageIdentifier{{ImageDigest: out.PreviewResults[0].ImageDigest}}}), 1)

	h.clock.Advance(25 * time.Hour)
	is(h, "a day later", *do(h, h.GetLifecyclePolicyPreview, get).Status, "EXPIRED")
	do(h, h.PutLifecyclePolicy, &api.PutLifecyclePolicyInput{RepositoryName: name, LifecyclePolicyText: new(keepTwo)})
	do(h, h.StartLifecyclePolicyPreview, &api.StartLifecyclePolicyPreviewInput{RepositoryName: name})
	do(h, h.DeleteRepository, &api.DeleteRepositoryInput{RepositoryName: name, Force: new(true)})
	report, err = h.evaluatePreviews(t.Context())
	h.must(err)
	is(h, "of a repository that is gone", report, "0 previews")
}

// An image that was pulled or tagged between evaluation and deed is left alone.
func TestLifecycleLeavesWhatHasChanged(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	digest := h.image("app", "1", []byte("layer"))
	text := `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":1},"action":{"type":"expire"}}]}`
	do(h, h.PutLifecyclePolicy, &api.PutLifecyclePolicyInput{RepositoryName: new("app"), LifecyclePolicyText: &text})
	h.clock.Advance(48 * time.Hour)
	marks := h.marks("app", text)
	is(h, "marks", len(marks), 1)
	body := *do(h, h.BatchGetImage, &api.BatchGetImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageDigest: &digest}}}).Images[0].ImageManifest
	h.put("app", body, "now")
	is(h, "acted", h.actOn("app", marks), 0)
	do(h, h.BatchDeleteImage, &api.BatchDeleteImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageTag: new("now")}}})
	is(h, "on one that is gone", h.actOn("app", marks), 0)
}

// marks evaluates a policy.
func (h *harness) marks(name, text string) (marks []lifecycle.Mark) {
	h.t.Helper()
	p, err := lifecycle.Parse(text)
	h.must(err)
	h.must(h.Store.View(h.t.Context(), func(tx *store.Tx) error {
		images, err := h.images(tx, h.repo(name))
		marks = p.Evaluate(images, h.clock.Now())
		return err
	}))
	return marks
}

// actOn does what marks say, and counts.
func (h *harness) actOn(name string, marks []lifecycle.Mark) (n int) {
	h.t.Helper()
	h.must(h.Store.Update(h.t.Context(), func(tx *store.Tx) error {
		n = 0
		for _, m := range marks {
			did, err := h.act(tx, h.repo(name), m)
			if err != nil {
				return err
			}
			if did {
				n++
			}
		}
		return nil
	}))
	return n
}
