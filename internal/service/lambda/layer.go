package lambda

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/store"
)

// layerRef names a layer, or one version of it.
type layerRef struct {
	Account, Region, Name string
	Version               int64 // zero: the layer as a whole
}

var (
	layerName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	layerARN  = regexp.MustCompile(`^arn:aws:lambda:([a-z0-9-]+):(\d{12}):layer:([a-zA-Z0-9_-]+)(?::(\d+))?$`)
)

func (l layerRef) key() store.Key { return store.K(l.Account, l.Region, l.Name) }

func (l layerRef) ARN() string {
	a := arn.New("lambda", l.Region, l.Account, "layer:"+l.Name).String()
	if l.Version > 0 {
		a += ":" + strconv.FormatInt(l.Version, 10)
	}
	return a
}

func (l layerRef) missing() error { return notFound("The resource you requested does not exist.") }

func (r *layerRow) ref() layerRef { return layerRef{r.Account, r.Region, r.Name, r.Version} }

// parseLayer reads a layer's name or ARN.
func parseLayer(sc auth.Scope, name *string, version *int64) (layerRef, error) {
	l := layerRef{Account: sc.Account, Region: sc.Region, Name: deref(name), Version: deref(version)}
	if m := layerARN.FindStringSubmatch(l.Name); m != nil {
		l.Region, l.Account, l.Name = m[1], m[2], m[3]
		if n := parseVersion(m[4]); n > 0 {
			l.Version = n
		}
	}
	if !layerName.MatchString(l.Name) {
		return l, invalid("Value '%s' at 'layerName' failed to satisfy constraint", l.Name)
	}
	return l, nil
}

// getLayer reads a layer's version that was not deleted.
func getLayer(tx *store.Tx, l layerRef) (*layerRow, error) {
	row, err := layers.Get(tx, l.key()+store.K(l.Version))
	if err == store.ErrNotFound || err == nil && row.Deleted {
		return nil, l.missing()
	}
	return row, err
}

// resolveLayers reads the layers that a function names. They are of its own
// account: policies of layers are not built.
func resolveLayers(tx *store.Tx, sc auth.Scope, arns []string) ([]layerUse, error) {
	if len(arns) > maxLayers {
		return nil, invalid("Function may have at most %d layers", maxLayers)
	}
	var out []layerUse
	var size int64
	for _, a := range arns {
		m := layerARN.FindStringSubmatch(a)
		if m == nil || m[4] == "" {
			return nil, invalid("Layer version ARN expected: %s", a)
		}
		l, err := parseLayer(sc, &a, nil)
		if err != nil {
			return nil, err
		}
		row, err := getLayer(tx, l)
		if err != nil {
			return nil, invalid("Layer version %s does not exist.", a)
		}
		if l.Account != sc.Account {
			return nil, invalid("Layer version %s does not exist.", a)
		}
		if slices.ContainsFunc(out, func(u layerUse) bool {
			return strings.HasPrefix(u.ARN, layerRef{l.Account, l.Region, l.Name, 0}.ARN()+":")
		}) {
			return nil, invalid("Two different versions of the same layer are not allowed to be referenced in the same function. %s", a)
		}
		out = append(out, layerUse{ARN: a, Size: row.Code.Size, Ref: row.Code.Ref})
		if size += row.Code.Size; size > maxUnzipped {
			return nil, invalid("Function code combined with layers exceeds the maximum allowed size of %d bytes.", maxUnzipped)
		}
	}
	return out, nil
}

// PublishLayerVersion makes a layer's next version.
func (s *Service) PublishLayerVersion(ctx context.Context, sc auth.Scope, in *api.PublishLayerVersionInput) (*api.PublishLayerVersionOutput, error) {
	l, err := parseLayer(sc, in.LayerName, nil)
	if err != nil {
		return nil, err
	}
	if in.Content == nil {
		return nil, invalid("Please provide a source for layer content.")
	}
	c, err := s.take(ctx, sc, source{Zip: in.Content.ZipFile, Bucket: in.Content.S3Bucket, Key: in.Content.S3Key,
		Version: in.Content.S3ObjectVersion, Operation: "PublishLayerVersion"})
	if err != nil {
		return nil, err
	}
	row := &layerRow{Account: l.Account, Region: l.Region, Name: l.Name, Description: deref(in.Description), License: deref(in.LicenseInfo),
		Runtimes: in.CompatibleRuntimes, Archs: in.CompatibleArchitectures, Code: c, Created: s.Clock.Now()}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		row.Version = 1
		for last, err := range layers.Scan(tx, store.Range{Prefix: l.key(), Reverse: true}) {
			if err != nil {
				return err
			}
			row.Version = last.Version + 1
			break
		}
		return layers.Insert(tx, row)
	})
	if err != nil {
		return nil, err
	}
	out, err := s.describeLayer(ctx, row)
	return (*api.PublishLayerVersionOutput)(out), err
}

func (s *Service) describeLayer(ctx context.Context, row *layerRow) (*api.GetLayerVersionOutput, error) {
	link, err := s.codeLink(ctx, row.Code, row.Name)
	if err != nil {
		return nil, err
	}
	whole := row.ref()
	whole.Version = 0
	return &api.GetLayerVersionOutput{
		Content:  &api.LayerVersionContentOutput{Location: &link, CodeSha256: &row.Code.SHA256, CodeSize: &row.Code.Size},
		LayerArn: new(whole.ARN()), LayerVersionArn: new(row.ref().ARN()), Description: &row.Description,
		CreatedDate: timestamp(row.Created), Version: &row.Version, CompatibleArchitectures: row.Archs,
		CompatibleRuntimes: row.Runtimes, LicenseInfo: orNil(row.License),
	}, nil
}

// GetLayerVersion describes a version, with a link to its content.
func (s *Service) GetLayerVersion(ctx context.Context, sc auth.Scope, in *api.GetLayerVersionInput) (*api.GetLayerVersionOutput, error) {
	l, err := parseLayer(sc, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	var row *layerRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		row, err = getLayer(tx, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.describeLayer(ctx, row)
}

// GetLayerVersionByArn is GetLayerVersion by the version's ARN.
func (s *Service) GetLayerVersionByArn(ctx context.Context, sc auth.Scope, in *api.GetLayerVersionByArnInput) (*api.GetLayerVersionByArnOutput, error) {
	out, err := s.GetLayerVersion(ctx, sc, &api.GetLayerVersionInput{LayerName: in.Arn})
	return (*api.GetLayerVersionByArnOutput)(out), err
}

func (r *layerRow) item() api.LayerVersionsListItem {
	return api.LayerVersionsListItem{LayerVersionArn: new(r.ref().ARN()), Version: &r.Version, Description: &r.Description,
		CreatedDate: timestamp(r.Created), CompatibleArchitectures: r.Archs, CompatibleRuntimes: r.Runtimes, LicenseInfo: orNil(r.License)}
}

// fits tells whether a layer is for a runtime and an architecture, if asked.
func (r *layerRow) fits(runtime, arch *string) bool {
	return !r.Deleted && (runtime == nil || slices.Contains(r.Runtimes, *runtime)) && (arch == nil || slices.Contains(r.Archs, *arch))
}

// ListLayers lists the account's layers, each with its newest version that fits.
func (s *Service) ListLayers(ctx context.Context, sc auth.Scope, in *api.ListLayersInput) (*api.ListLayersOutput, error) {
	prefix := store.K(sc.Account, sc.Region)
	after, err := s.marker(in.Marker, prefix)
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxItems)
	out := &api.ListLayersOutput{Layers: []api.LayersListItem{}}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		newest := map[string]int{}
		var last store.Key
		for row, err := range layers.Scan(tx, store.Range{Prefix: prefix, After: after}) {
			if err != nil {
				return err
			}
			if !row.fits(in.CompatibleRuntime, in.CompatibleArchitecture) {
				continue
			}
			whole := row.ref()
			whole.Version = 0
			i, seen := newest[row.Name]
			if !seen {
				if len(out.Layers) == n {
					out.NextMarker = markerOf(last)
					return nil
				}
				i = len(out.Layers)
				newest[row.Name] = i
				out.Layers = append(out.Layers, api.LayersListItem{LayerName: &row.Name, LayerArn: new(whole.ARN())})
			}
			out.Layers[i].LatestMatchingVersion = new(row.item())
			last = row.ref().key().End()
		}
		return nil
	})
	return out, err
}

// ListLayerVersions lists a layer's versions, newest first.
func (s *Service) ListLayerVersions(ctx context.Context, sc auth.Scope, in *api.ListLayerVersionsInput) (*api.ListLayerVersionsOutput, error) {
	l, err := parseLayer(sc, in.LayerName, nil)
	if err != nil {
		return nil, err
	}
	after, err := s.marker(in.Marker, l.key())
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxItems)
	out := &api.ListLayerVersionsOutput{LayerVersions: []api.LayerVersionsListItem{}}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		var last store.Key
		for row, err := range layers.Scan(tx, store.Range{Prefix: l.key(), After: after, Reverse: true}) {
			if err != nil {
				return err
			}
			if !row.fits(in.CompatibleRuntime, in.CompatibleArchitecture) {
				continue
			}
			if len(out.LayerVersions) == n {
				out.NextMarker = markerOf(last)
				return nil
			}
			out.LayerVersions = append(out.LayerVersions, row.item())
			last = l.key() + store.K(row.Version)
		}
		return nil
	})
	return out, err
}

// DeleteLayerVersion takes a version away. Functions that use it go on with it.
func (s *Service) DeleteLayerVersion(ctx context.Context, sc auth.Scope, in *api.DeleteLayerVersionInput) (*api.DeleteLayerVersionOutput, error) {
	l, err := parseLayer(sc, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := getLayer(tx, l)
		if err != nil {
			return nil // what is not there is gone already
		}
		row.Deleted = true

		return layers.Put(tx, row)
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteLayerVersionOutput{}, nil
}
