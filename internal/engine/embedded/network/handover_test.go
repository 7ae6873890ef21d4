//go:build linux && amd64

package network

import (
	"reflect"
	"strings"
	"testing"
)

// A field that is new has to be handed over to a program that upgrades to this one,
// or be what can be done without: say so in handover.go, then here.
func TestHandedOver(t *testing.T) {
	for of, known := range map[any]string{
		new(Pool):       "name local routing machine router named groups mu next freed fresh used idle making closed held wait",
		new(Slot):       "User Net Base kind number account diversions mu links made own",
		new(link):       "router number eth side network address subnet groups",
		new(Router):     "fd handle mtu pair pins gone nft nat ports mu members groups firewall taken",
		new(machine):    "name links ports nft table everywhere single",
		new(firewall):   "table sides now count ids",
		new(generation): "number members chains shared",
		new(Published):  "Ports machine router gate leads",
		new(lead):       "socket outer middle inner everywhere",
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
