package image

import (
	"skerry/internal/engine"
)

// choose returns the manifest of an index that suits a platform: the exact
// variant, else the best that the platform can run.
func choose(all []descriptor, want engine.Platform) (descriptor, error) {
	best, rank := -1, 0
	for i, d := range all {
		if d.Platform == nil || d.Annotations["vnd.docker.reference.type"] != "" {
			continue // attestations are no images
		}
		if r := suits(*d.Platform, want); r > rank {
			best, rank = i, r
		}
	}
	if best < 0 && len(all) == 1 && all[0].Platform == nil {
		return all[0], nil
	}
	if best < 0 {
		text := want.OS + "/" + want.Architecture
		if want.Variant != "" {
			text += "/" + want.Variant
		}
		return descriptor{}, faultf(engine.ErrNotFound, "no matching manifest for %s in the manifest list entries", text)
	}
	return all[best], nil
}

// suits ranks how well an image's platform suits the wanted one; 0 is not at all.
func suits(have platform, want engine.Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	level := func(variant string) int {
		if variant == "" {
			switch have.Architecture {
			case "arm":
				return 7
			case "arm64":
				return 8
			}
			return 1
		}
		if len(variant) == 2 && variant[0] == 'v' && variant[1] >= '0' && variant[1] <= '9' {
			return int(variant[1] - '0')
		}
		return 0
	}
	h, w := level(have.Variant), level(want.Variant)
	switch {
	case have.Variant == want.Variant, h == w:
		return 100
	case h == 0 || h > w:
		return 0
	}
	return h
}
