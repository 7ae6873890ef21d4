//go:build linux

package cgroup

import (
	"reflect"
	"strings"
	"testing"
)

// A field that is new has to be handed over to a program that upgrades to this one,
// or be what can be done without: say so in handover.go, then here.
func TestHandedOver(t *testing.T) {
	for of, known := range map[any]string{
		new(Tree):      "Version Controllers Why v1 of CPUs Mems cpus devices usual v2 path mu spare next reserved",
		new(hierarchy): "path fd first",
		new(Group):     "tree name parent limits kills cpu join devices ownJoin cpus cpusJoin reserved frozen unlimited",
		new(Parent):    "group mu users reserved",
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
