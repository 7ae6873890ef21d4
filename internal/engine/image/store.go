package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"skerry/internal/base/clock"
	"skerry/internal/base/fsync"
	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/image/remote"
	"skerry/internal/store"
)

// Config of Open.
type Config struct {
	Dir   string // of the unpacked layers; made, and readable by its owner alone
	Store *store.DB
	Blobs blob.Store
	Clock clock.Clock
	Log   *slog.Logger
	// Used tells which images, by id, have containers. Nil: none has.
	Used func(ctx context.Context) (map[string]bool, error)
	// Wake has the loop run soon. Nil: it runs by its period alone.
	Wake func()
	// Registries says how they are reached.
	Registries remote.Config
	// Relaxed does not wait for the disk; for test suites.
	Relaxed bool
}

// Store has the images. It implements engine.Images.
type Store struct {
	cfg Config

	// removal is held for writing by what removes, and for reading by who takes
	// hold of an image, so that neither meets the other half-way.
	removal sync.RWMutex
	mu      sync.Mutex
	held    map[string]int  // digests of images and of layers that are not removed
	busy    map[string]bool // folders that are being unpacked

	settling fsync.Group // with the disk of the layers
	flights  flights
	slots    chan struct{} // taken by each layer that is being fetched
	remote   *remote.Client
}

// layersAtOnce is how many layers are fetched and unpacked at once, whoever wants
// them.
const layersAtOnce = 4

var _ engine.Images = (*Store)(nil)

// Open returns the images of a folder. It costs nothing.
func Open(c Config) (*Store, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	c.Dir = dir
	if c.Clock == nil {
		c.Clock = clock.Real
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// Setuid programs of images are not for the machine's users.
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	s := &Store{
		cfg: c, held: map[string]int{}, busy: map[string]bool{},
		flights: flights{all: map[string]*flight{}}, slots: make(chan struct{}, layersAtOnce), remote: remote.New(c.Registries),
	}
	return s, nil
}

// Close ends what is being fetched. What has been fetched stays.
func (s *Store) Close() error {
	s.flights.close()
	s.remote.Close()
	return nil
}

// Held is an image that stays while it is being used.
type Held struct {
	Image engine.Image
	// Layers are the folders of its layers, the lowest first, each once.
	Layers []string
	// Release lets the image go. Until then neither it nor its layers are
	// removed; afterwards Config.Used must know its containers.
	Release func()
}

// Hold finds an image by name or id and keeps it from being removed. Errors:
// engine.ErrNotFound.
func (s *Store) Hold(ctx context.Context, name string) (Held, error) {
	s.removal.RLock()
	defer s.removal.RUnlock()
	var h Held
	err := s.cfg.Store.View(ctx, func(tx *store.Tx) error {
		row, err := s.find(tx, name)
		if err != nil {
			return err
		}
		if h.Image, err = s.image(tx, row); err != nil {
			return err
		}
		h.Layers, err = s.folders(tx, row)
		return err
	})
	if err != nil {
		return Held{}, err
	}
	h.Release = s.hold(append([]string{h.Image.ID}, h.Image.Layers...))
	return h, nil
}

// hold keeps images and layers from being removed until release is called.
func (s *Store) hold(digests []string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range digests {
		s.held[d]++
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, d := range digests {
			if s.held[d]--; s.held[d] == 0 {
				delete(s.held, d)
			}
		}
	})
}

// secure is hold for layers that may be garbage at the moment: it waits for a
// removal under way, after which what is found here stays.
func (s *Store) secure(digests []string) (release func()) {
	s.removal.RLock()
	defer s.removal.RUnlock()
	return s.hold(digests)
}

// folders returns the folders of an image's layers. Of a layer that is there twice
// only the upper one counts: it hides the lower one wholly, and overlayfs takes no
// folder twice.
func (s *Store) folders(tx *store.Tx, row *imageRow) ([]string, error) {
	var dirs []string
	seen := map[string]bool{}
	for _, l := range slices.Backward(row.Layers) {
		if seen[l.DiffID] {
			continue
		}
		seen[l.DiffID] = true
		lr, err := layers.Get(tx, store.K(l.DiffID))
		if err != nil {
			return nil, fmt.Errorf("image: layer %s of %s: %w", l.DiffID, row.ID, err)
		}
		dirs = append(dirs, filepath.Join(s.cfg.Dir, lr.Dir))
	}
	slices.Reverse(dirs)
	return dirs, nil
}

// find returns the image that a name, id or beginning of an id means.
func (s *Store) find(tx *store.Tx, text string) (*imageRow, error) {
	missing := faultf(engine.ErrNotFound, "No such image: %s", text)
	if validDigest(text) {
		if row, err := images.Get(tx, store.K(text)); !errors.Is(err, store.ErrNotFound) {
			return row, err
		}
	}
	if n, err := ParseName(text); err == nil && !validDigest(text) {
		id, err := lookup(tx, n)
		if err != nil {
			return nil, err
		}
		if id != "" {
			return images.Get(tx, store.K(id))
		}
	}
	prefix, ok := strings.CutPrefix(text, "sha256:")
	if !isHex(prefix) || len(prefix) < 4 && !ok || len(prefix) > 64 {
		return nil, missing
	}
	var found *imageRow
	for row, err := range images.Scan(tx, store.Range{Prefix: store.KPrefix("sha256:" + prefix)}) {
		if err != nil {
			return nil, err
		}
		if found != nil {
			return nil, faultf(engine.ErrNotFound, "several images have an id that begins with %s", text)
		}
		found = row
	}
	if found == nil {
		return nil, missing
	}
	return found, nil
}

// lookup returns the id of a name's image, or nothing.
func lookup(tx *store.Tx, n Name) (string, error) {
	if n.Digest == "" {
		row, err := names.Get(tx, store.K(n.String()))
		if errors.Is(err, store.ErrNotFound) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return row.Image, nil
	}
	for row, err := range imagesByDigest.Scan(tx, store.Range{Prefix: store.K(n.String())}) {
		if err != nil {
			return "", err
		}
		return row.ID, nil
	}
	return "", nil
}

// image describes a row.
func (s *Store) image(tx *store.Tx, row *imageRow) (engine.Image, error) {
	i := engine.Image{ID: row.ID, Created: row.Created, Platform: row.Platform, Config: row.Config, History: row.History}
	for n, err := range namesByImage.Scan(tx, store.Range{Prefix: store.K(row.ID)}) {
		if err != nil {
			return i, err
		}
		i.Names = append(i.Names, familiar(n.Name))
	}
	slices.Sort(i.Names)
	for _, d := range row.Digests {
		i.Digests = append(i.Digests, familiar(d))
	}
	slices.Sort(i.Digests)
	counted := map[string]bool{}
	for _, l := range row.Layers {
		i.Layers = append(i.Layers, l.DiffID)
		lr, err := layers.Get(tx, store.K(l.DiffID))
		if err != nil {
			return i, fmt.Errorf("image: layer %s of %s: %w", l.DiffID, row.ID, err)
		}
		i.LayerSizes = append(i.LayerSizes, lr.Size)
		if !counted[l.DiffID] {
			i.Size += lr.Size
		}
		counted[l.DiffID] = true
	}
	return i, nil
}

// familiar shortens a name as Docker shows it.
func familiar(name string) string {
	n, err := ParseName(name)
	if err != nil {
		return name
	}
	return n.Familiar()
}

// Get implements engine.Images.
func (s *Store) Get(ctx context.Context, image string) (i engine.Image, err error) {
	err = s.cfg.Store.View(ctx, func(tx *store.Tx) error {
		row, err := s.find(tx, image)
		if err == nil {
			i, err = s.image(tx, row)
		}
		return err
	})
	return i, err
}

// List implements engine.Images.
func (s *Store) List(ctx context.Context) (list []engine.Image, err error) {
	err = s.cfg.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		for row, err := range images.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			i, err := s.image(tx, row)
			if err != nil {
				return err
			}
			list = append(list, i)
		}
		return nil
	})
	slices.SortStableFunc(list, func(a, b engine.Image) int { return b.Created.Compare(a.Created) })
	return list, err
}

// Tag implements engine.Images.
func (s *Store) Tag(ctx context.Context, image, name string) error {
	n, err := ParseName(name)
	if err != nil {
		return faultf(engine.ErrInvalid, "%w: %.300q", err, name)
	}
	if n.Digest != "" {
		return faultf(engine.ErrInvalid, "refusing to create a tag with a digest reference")
	}
	return s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := s.find(tx, image)
		if err != nil {
			return err
		}
		return s.name(tx, row.ID, n)
	})
}

// name gives an image a name, and takes it from the one that had it.
func (s *Store) name(tx *store.Tx, id string, n Name) error {
	before, err := lookup(tx, n)
	if err != nil || before == id {
		return err
	}
	if err := names.Put(tx, &nameRow{Name: n.String(), Image: id}); err != nil {
		return err
	}
	if row, err := images.Get(tx, store.K(id)); err != nil {
		return err
	} else if row.Loose {
		row.Loose = false
		if err := images.Put(tx, row); err != nil {
			return err
		}
	}
	return s.loosen(tx, before)
}

// loosen notes that an image may have lost its last name.
func (s *Store) loosen(tx *store.Tx, id string) error {
	if id == "" {
		return nil
	}
	for _, err := range namesByImage.ScanKeys(tx, store.Range{Prefix: store.K(id)}) {
		return err // it has one
	}
	row, err := images.Get(tx, store.K(id))
	if err != nil {
		return err
	}
	row.Loose = true
	return images.Put(tx, row)
}

// Referenced tells which of some blobs belong to images.
func (s *Store) Referenced(ctx context.Context, refs []blob.Ref) (map[blob.Ref]bool, error) {
	used := map[blob.Ref]bool{}
	err := s.cfg.Store.View(ctx, func(tx *store.Tx) error {
		for _, r := range refs {
			for _, err := range imagesByBlob.ScanKeys(tx, store.Range{Prefix: store.K(string(r))}) {
				if err != nil {
					return err
				}
				used[r] = true
				break
			}
		}
		return nil
	})
	return used, err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
