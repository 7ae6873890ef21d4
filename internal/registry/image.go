package registry

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"skerry/internal/store"
)

// PutManifest gives a repository a manifest that Prepare has read, and tags for
// it. What it names must be there, but for its subject. It returns what changed:
// no tag, and New false, if all was as it is asked for. Errors:
// RepositoryNotFound, ParameterInvalid, LayersNotFound, ReferencedImagesNotFound,
// TagImmutable.
func (r *Registry) PutManifest(tx *store.Tx, id Repo, prepared *Manifest, names ...string) (Push, error) {
	repo, err := r.Repository(tx, id)
	if err != nil {
		return Push{}, err
	}
	m := *prepared
	m.Repo = id
	if err := r.complete(tx, &m); err != nil {
		return Push{}, err
	}
	p := Push{Manifest: &m}
	old, err := manifests.Get(tx, id.Key()+store.K(m.Digest))
	switch {
	case errors.Is(err, store.ErrNotFound):
		m.Pushed, p.New = r.now(), true
	case err != nil:
		return Push{}, err
	default:
		m.Pushed, m.Pulled = old.Pushed, old.Pulled
		m.Archived, m.ArchivedAt, m.ActivatedAt = old.Archived, old.ArchivedAt, old.ActivatedAt
		if p.Restored = m.Archived; m.Archived { // a push brings it back
			m.Archived, m.ActivatedAt = false, r.now()
		}
	}
	if p.New || p.Restored || old.MediaType != m.MediaType {
		if err := manifests.Put(tx, &m); err != nil {
			return Push{}, err
		}
	}
	for _, name := range names {
		moved, err := r.tag(tx, repo, name, m.Digest)
		if err != nil {
			return Push{}, err
		}
		if moved {
			p.Tags = append(p.Tags, name)
		}
	}
	if err := r.adopt(tx, &m); err != nil {
		return Push{}, err
	}
	if !p.New && len(p.Tags) == 0 {
		return p, nil
	}
	if err := r.notify(tx, &m, false); err != nil || r.hooks.Pushed == nil {
		return p, err
	}
	return p, r.hooks.Pushed(tx, p)
}

// complete checks that the repository has what a manifest names.
func (r *Registry) complete(tx *store.Tx, m *Manifest) error {
	var missing []string
	for _, d := range m.blobs() {
		has, err := blobs.Has(tx, m.Repo.Key()+store.K(d.Digest))
		if err != nil {
			return err
		}
		if !has && !slices.Contains(missing, d.Digest) {
			missing = append(missing, d.Digest)
		}
	}
	if len(missing) > 0 {
		e := fail(LayersNotFound, "Layers with digests '[%s]' required for pushing image into repository with name '%s' in the registry with id '%s' do not exist",
			strings.Join(missing, ", "), m.Repo.Name, m.Repo.Account)
		e.Digests = missing
		return e
	}
	for _, d := range m.Manifests {
		has, err := manifests.Has(tx, m.Repo.Key()+store.K(d.Digest))
		if err != nil {
			return err
		}
		if !has && !slices.Contains(missing, d.Digest) {
			missing = append(missing, d.Digest)
		}
	}
	if len(missing) > 0 {
		e := fail(ReferencedImagesNotFound, "Images with digests '[%s]' required for pushing image into repository with name '%s' in the registry with id '%s' do not exist",
			strings.Join(missing, ", "), m.Repo.Name, m.Repo.Account)
		e.Digests = missing
		return e
	}
	return nil
}

// adopt takes the mark from the manifests about this one, if it was deleted and
// is back.
func (r *Registry) adopt(tx *store.Tx, m *Manifest) error {
	for about, err := range r.Referrers(tx, m.Repo, m.Digest) {
		if err != nil {
			return err
		}
		if !about.Orphaned.IsZero() {
			about.Orphaned = time.Time{}
			if err := manifests.Put(tx, about); err != nil {
				return err
			}
		}
	}
	return nil
}

// tag gives a tag to a manifest, and tells whether it was another's or new.
func (r *Registry) tag(tx *store.Tx, repo *Repository, name, digest string) (bool, error) {
	if !ValidTag(name) {
		return false, fail(ParameterInvalid, "Invalid parameter at 'imageTag' failed to satisfy constraint: 'must satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}''").as("TAG_INVALID")
	}
	old, err := tags.Get(tx, repo.Repo.Key()+store.K(name))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return false, err
	case old.Digest == digest:
		return false, nil
	case repo.immutable(name):
		return false, fail(TagImmutable, "The image tag '%s' already exists in the '%s' repository and cannot be overwritten because the tag is immutable.", name, repo.Repo.Name)
	}
	return true, tags.Put(tx, &Tag{Repo: repo.Repo, Tag: name, Digest: digest, Updated: r.now()})
}

// Manifest returns a manifest by digest, or by tag if digest is empty; given
// both, the tag must be the digest's. Errors: RepositoryNotFound, ImageNotFound.
func (r *Registry) Manifest(tx *store.Tx, id Repo, digest, tag string) (*Manifest, error) {
	want := digest
	if tag != "" {
		t, err := tags.Get(tx, id.Key()+store.K(tag))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err != nil || digest != "" && t.Digest != digest {
			return nil, r.imageMissing(tx, id, digest, tag)
		}
		want = t.Digest
	}
	m, err := manifests.Get(tx, id.Key()+store.K(want))
	if errors.Is(err, store.ErrNotFound) {
		return nil, r.imageMissing(tx, id, digest, tag)
	}
	return m, err
}

// imageMissing tells whether it is the image or its repository that is not there.
func (r *Registry) imageMissing(tx *store.Tx, id Repo, digest, tag string) error {
	if _, err := r.Repository(tx, id); err != nil {
		return err
	}
	return imageNotFound(id, digest, tag)
}

// Manifests returns a repository's manifests by digest, those after a digest if
// one is given.
func (r *Registry) Manifests(tx *store.Tx, id Repo, after string) iter.Seq2[*Manifest, error] {
	span := store.Range{Prefix: id.Key()}
	if after != "" {
		span.After = id.Key() + store.K(after)
	}
	return manifests.Scan(tx, span)
}

// Tags returns a repository's tags in lexical order, those after a tag if one is
// given.
func (r *Registry) Tags(tx *store.Tx, id Repo, after string) iter.Seq2[*Tag, error] {
	span := store.Range{Prefix: id.Key()}
	if after != "" {
		span.After = id.Key() + store.K(after)
	}
	return tags.Scan(tx, span)
}

// TagsOf returns the tags of a manifest in lexical order.
func (r *Registry) TagsOf(tx *store.Tx, id Repo, digest string) ([]string, error) {
	var out []string
	for t, err := range tagsByDigest.Scan(tx, store.Range{Prefix: id.Key() + store.K(digest)}) {
		if err != nil {
			return nil, err
		}
		out = append(out, t.Tag)
	}
	return out, nil
}

// Referrers returns the manifests whose subject is a digest, which need not be
// there itself.
func (r *Registry) Referrers(tx *store.Tx, id Repo, subject string) iter.Seq2[*Manifest, error] {
	return manifestsBySubject.Scan(tx, store.Range{Prefix: id.Key() + store.K(subject)})
}

// Naming returns the images that name a layer or configuration.
func (r *Registry) Naming(tx *store.Tx, id Repo, digest string) iter.Seq2[*Manifest, error] {
	return manifestsByBlob.Scan(tx, store.Range{Prefix: id.Key() + store.K(digest)})
}

// DeleteTag takes a tag from its image. The image stays, as the specification
// says; with the control plane's BatchDeleteImage an image goes with its last tag
// (see DeleteImage). Errors: RepositoryNotFound, ImageNotFound.
func (r *Registry) DeleteTag(tx *store.Tx, id Repo, tag string) (*Manifest, error) {
	m, err := r.Manifest(tx, id, "", tag)
	if err != nil {
		return nil, err
	}
	return m, tags.Delete(tx, id.Key()+store.K(tag))
}

// DeleteManifest removes a manifest with its tags. Errors: RepositoryNotFound,
// ImageNotFound, ImageReferenced (an index names it).
func (r *Registry) DeleteManifest(tx *store.Tx, id Repo, digest string) (*Manifest, error) {
	m, err := r.Manifest(tx, id, digest, "")
	if err != nil {
		return nil, err
	}
	for key, err := range manifestsByChild.ScanKeys(tx, store.Range{Prefix: id.Key() + store.K(digest)}) {
		if err != nil {
			return nil, err
		}
		p, err := key.Parts()
		if err != nil {
			return nil, err
		}
		return nil, fail(ImageReferenced, "Requested image referenced by manifest list: [%v]", p[len(p)-1])
	}
	return m, r.removeManifest(tx, m)
}

// DeleteImage is BatchDeleteImage for a tag: the image goes with its last tag.
func (r *Registry) DeleteImage(tx *store.Tx, id Repo, tag string) (*Manifest, error) {
	m, err := r.Manifest(tx, id, "", tag)
	if err != nil {
		return nil, err
	}
	names, err := r.TagsOf(tx, id, m.Digest)
	if err != nil {
		return nil, err
	}
	if len(names) > 1 {
		return r.DeleteTag(tx, id, tag)
	}
	return r.DeleteManifest(tx, id, m.Digest)
}

// removeManifest removes a manifest's rows. Its layers that no other names stay
// for a while.
func (r *Registry) removeManifest(tx *store.Tx, m *Manifest) error {
	names, err := r.TagsOf(tx, m.Repo, m.Digest)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := tags.Delete(tx, m.Repo.Key()+store.K(name)); err != nil {
			return err
		}
	}
	if err := manifests.Delete(tx, m.Repo.Key()+store.K(m.Digest)); err != nil {
		return err
	}
	now := r.now()
	for about, err := range r.Referrers(tx, m.Repo, m.Digest) {
		if err != nil {
			return err
		}
		about.Orphaned = now
		if err := manifests.Put(tx, about); err != nil {
			return err
		}
	}
	for _, d := range m.blobs() {
		if err := touch(tx, m.Repo, d.Digest, now); err != nil {
			return err
		}
	}
	if err := r.notify(tx, m, true); err != nil {
		return err
	}
	if r.hooks.Deleted != nil {
		return r.hooks.Deleted(tx, m, names)
	}
	return nil
}

// Archive puts a manifest into the archive, from where it cannot be pulled, or
// takes it back. It changes m as well as the row.
func (r *Registry) Archive(tx *store.Tx, m *Manifest, archived bool) error {
	if m.Archived = archived; archived {
		m.ArchivedAt = r.now()
	} else {
		m.ActivatedAt = r.now()
	}
	return manifests.Put(tx, m)
}

// PullIsNews tells whether a pull now changes when a manifest was last pulled, as
// exactly as that is kept.
func (r *Registry) PullIsNews(m *Manifest) bool { return r.now().Sub(m.Pulled) >= pullGrain }

// RecordPull writes when a manifest was last pulled, once an hour at most.
func (r *Registry) RecordPull(tx *store.Tx, id Repo, digest string) error {
	m, err := manifests.Get(tx, id.Key()+store.K(digest))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now := r.now()
	if now.Sub(m.Pulled) < pullGrain {
		return nil
	}
	m.Pulled = now
	return manifests.Put(tx, m)
}

// pullGrain is how exactly the time of the last pull is kept; ECR's own is a day.
const pullGrain = time.Hour
