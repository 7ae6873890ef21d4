//go:build linux && amd64

package rootfs

import (
	"reflect"
	"strings"
	"testing"
)

// A field that is new has to be handed over to a program that upgrades to this one,
// or be what can be done without: say so in handover.go, then here.
func TestHandedOver(t *testing.T) {
	for of, known := range map[any]string{
		new(Roots):      "room mu made next dev skeleton places",
		new(prepared):   "path used",
		new(Tree):       "roots image path mu layers mounted whole begin",
		new(Image):      "Layers Upper Disk Userns Base Trusted Devices",
		new(Room):       "fd home top proc",
		new(SharedDisk): "loop mount path",
	} {
		kind := reflect.TypeOf(of).Elem()
		var all []string
		for i := range kind.NumField() {
			all = append(all, kind.Field(i).Name)
		}
		if got := strings.Join(all, " "); got != known {
			t.Errorf("%s has the fields %q, where the handover knows %q", kind, got, known)
		}
	}
}
