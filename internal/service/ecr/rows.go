package ecr

import (
	"errors"
	"time"

	"skerry/internal/registry"
	"skerry/internal/store"
)

// registryRow is what an account's registry has in a region besides repositories.
type registryRow struct {
	Account, Region string
	Policy          string // JSON; empty: none
	Replication     []replicationRule
	ScanFilters     []string // wildcards of the repositories that are scanned on push
	ScanRules       bool     // whether there is a rule for them
	Manual          []string // wildcards of the rule MANUAL, which changes nothing
	Signing         bool     // whether a (necessarily empty) configuration was put
	Settings        map[string]string
}

// replicationRule says where pushes to some repositories are copied to.
type replicationRule struct {
	Prefixes     []string
	Destinations []destination
}

// destination is another registry.
type destination struct{ Account, Region string }

// cacheRow is a pull-through cache rule.
type cacheRow struct {
	Account, Region, Prefix string
	Registry                string // docker-hub, ecr, ...
	URL                     string // host of the upstream
	UpstreamPrefix          string // ROOT for none
	Role                    string
	Created, Updated        time.Time
}

// templateRow is a repository creation template.
type templateRow struct {
	Account, Region, Prefix string
	Description             string
	Tags                    map[string]string
	Mutability              string
	Exclusions              []string
	Policy, Lifecycle       string
	AppliedFor              []string
	Role                    string
	Created, Updated        time.Time
}

// exclusionRow is a principal whose pulls do not count as such.
type exclusionRow struct {
	Account, Region, Principal string
	Created                    time.Time
}

// previewRow is the preview of a lifecycle policy, the last of its repository.
type previewRow struct {
	Repo    registry.Repo
	Text    string
	Status  string // IN_PROGRESS, COMPLETE or FAILED
	Started time.Time
	Ended   time.Time
	Results []previewResult
}

type previewResult struct {
	Digest   string
	Tags     []string
	Pushed   time.Time
	Priority int
	Action   string // expire or transition
	Archived bool   // the class it is in
}

// scanRow is the scan of an image, the last one.
type scanRow struct {
	Repo        registry.Repo
	Digest      string
	Status      string // IN_PROGRESS or an end state of ECR's
	Description string
	Requested   time.Time
	Due         time.Time // when it is scanned at the earliest
	Asked       bool      // by StartImageScan, which has a quota, not by a push
	Ended       time.Time
	Updated     time.Time        // of the feed's newest entry; zero: there was no feed
	Counts      map[string]int32 // of all findings, by severity
}

// findingsRow is what a scan has found: a row of its own, as listings of images
// read the scans.
type findingsRow struct {
	Repo     registry.Repo
	Digest   string
	Findings []finding
}

// finding is a vulnerability of a package, or (without a feed) a package.
type finding struct {
	Name, Description, URI, Severity string
	Package, Version, Fixed, Path    string
	Vector                           string
	Score                            float64
}

// replicaRow says how far the copy of an image in another registry is.
type replicaRow struct {
	Repo    registry.Repo
	Digest  string
	To      destination
	Status  string // IN_PROGRESS, COMPLETE or FAILED
	Failure string // code
}

// meteredRow says until when storage is metered.
type meteredRow struct{ Until time.Time }

var (
	registries = store.NewTable("ecr/registries", func(r *registryRow) store.Key { return store.K(r.Account, r.Region) })
	caches     = store.NewTable("ecr/caches", func(r *cacheRow) store.Key { return store.K(r.Account, r.Region, r.Prefix) })
	templates  = store.NewTable("ecr/templates", func(r *templateRow) store.Key { return store.K(r.Account, r.Region, r.Prefix) })
	exclusions = store.NewTable("ecr/exclusions", func(r *exclusionRow) store.Key { return store.K(r.Account, r.Region, r.Principal) })
	previews   = store.NewTable("ecr/previews", func(r *previewRow) store.Key { return r.Repo.Key() }, previewsWaiting)
	scans      = store.NewTable("ecr/scans", func(r *scanRow) store.Key { return r.Repo.Key() + store.K(r.Digest) }, scansWaiting)
	findings   = store.NewTable("ecr/findings", func(r *findingsRow) store.Key { return r.Repo.Key() + store.K(r.Digest) })
	replicas   = store.NewTable("ecr/replicas", (*replicaRow).key)
	metered    = store.NewTable("ecr/metered", func(*meteredRow) store.Key { return store.K("") })

	// What a loop has still to do.
	previewsWaiting = store.NewIndex("waiting", func(r *previewRow) []store.Key { return waiting(r.Status, r.Started) })
	scansWaiting    = store.NewIndex("waiting", func(r *scanRow) []store.Key { return waiting(r.Status, r.Due) })
)

func (r *replicaRow) key() store.Key {
	return r.Repo.Key() + store.K(r.Digest, r.To.Account, r.To.Region)
}

// inProgress is the state of what waits for a loop.
const inProgress = "IN_PROGRESS"

func waiting(status string, since time.Time) []store.Key {
	if status != inProgress {
		return nil
	}
	return []store.Key{store.K(since)}
}

// registryOf returns the row of a registry, which need not have been written.
func registryOf(tx *store.Tx, account, region string) (*registryRow, error) {
	row, err := registries.Get(tx, store.K(account, region))
	if errors.Is(err, store.ErrNotFound) {
		return &registryRow{Account: account, Region: region}, nil
	}
	return row, err
}

// deleted removes what was known of a manifest that goes (registry.Hooks).
func (s *Service) deleted(tx *store.Tx, m *registry.Manifest, _ []string) error {
	key := m.Repo.Key() + store.K(m.Digest)
	if err := scans.Delete(tx, key); err != nil {
		return err
	}
	if err := findings.Delete(tx, key); err != nil {
		return err
	}
	return deleteAll(tx, replicas, store.Range{Prefix: key}, (*replicaRow).key)
}

// deleteAll deletes the rows of a range.
func deleteAll[R any](tx *store.Tx, t *store.Table[R], r store.Range, key func(*R) store.Key) error {
	for row, err := range t.Scan(tx, r) {
		if err != nil {
			return err
		}
		if err := t.Delete(tx, key(row)); err != nil {
			return err
		}
	}
	return nil
}
