//go:build linux && amd64

package supervisor

import (
	"reflect"
	"strings"
	"testing"
)

// A field that is new has to be handed over to a program that upgrades to this one,
// or be what can be done without: say so in handover.go, then here.
func TestHandedOver(t *testing.T) {
	for of, known := range map[any]string{
		new(supervisor): "cfg version lock socket tree pool boxes together firewall linking roots spares kept bares disks spawner low walls pump reaper journal caps ownPids ownNames init mu containers conns asked ending stop signals janitor gate upgrading sessions",
		new(container):  "id account labels created command env dir user home bounds rlimits tty stdin spec image host clean box slot group bound log mu state removed forgotten run ready bare stdio tree written opened made limits pid pidfd mounts started exit cursors past published",
		new(prepared):   "hostname root mounts dev groups join folder",
		new(run):        "exited exit gone",
		new(stdio):      "ends input run pts slave",
		new(log):        "dir pipes terminal files size mu file segments end more ended",
		new(sandbox):    "name account made slot network users changed",
		new(bound):      "account group parent users disks",
		new(session):    "conn pid pidfd started exit done",
		new(journal):    "mu next events gone more",
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
