//go:build linux && amd64

package embedded

import (
	"context"
	"strings"
	"testing"

	"skerry/internal/engine"
)

func TestUserNames(t *testing.T) {
	d := open(t)
	base := busybox(t)
	withImages(t, d, map[string][]string{
		"i": {base, layer(t, tree{
			"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n# app:x:9:9::/:\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\nbig:x:70000:1:::\n1234:x:55:56::/:\n",
			"etc/group":  "root:x:0:\napps:x:1001:\nwheel:x:10:root,app\naudio:x:11:app,other\nhuge:x:4294967296:app\n",
		})},
		"none": {base},
		"link": {base, layer(t, tree{"etc/passwd": "-> /proc/self/environ", "etc/group": "-> /dev/zero"})},
		"out":  {base, layer(t, tree{"etc/passwd": "-> ../../../../../../etc/hostname"})},
		"big":  {base, layer(t, tree{"etc/passwd": strings.Repeat("x:x:1:1:::\n", 1<<19)})},
	})
	const show = `id -u; id -g; id -G; echo $HOME`
	for _, c := range []struct{ image, user, want string }{
		{"i", "", "0\n0\n0\n/root\n"},
		{"i", "root", "0\n0\n0 10\n/root\n"},
		{"i", "app", "1000\n1001\n1001 10 11\n/home/app\n"},
		{"i", "1000", "1000\n1001\n1001 10 11\n/home/app\n"},
		{"i", "app:wheel", "1000\n10\n10\n/home/app\n"},
		{"i", "app:77", "1000\n77\n77\n/home/app\n"},
		{"i", "2000:apps", "2000\n1001\n1001\n/\n"},
		{"i", "1234", "55\n56\n56\n/\n"}, // a name goes before a number that it looks like
		{"none", "3000", "3000\n0\n0\n/\n"},
		{"none", "3000:4000", "3000\n4000\n4000\n/\n"},
		{"none", "bob", "unable to find user bob: no matching entries in passwd file"},
		{"i", "app:staff", "unable to find group staff: no matching entries in group file"},
		{"i", "big", "70000:1, which no container has"},
		{"i", "99999", "unable to find user 99999"},
		{"out", "root", "no matching entries in passwd file"},
		{"link", "root", "no matching entries in passwd file"},
		{"big", "root", "more than"},
	} {
		spec := inImage(c.image, show)
		spec.User.Name = c.user
		if strings.HasSuffix(c.want, "\n") {
			if r := run(t, d, spec); r.out != c.want {
				t.Errorf("%s %q: %q, want %q %s", c.image, c.user, r.out, c.want, r.errs)
			}
			continue
		}
		id, err := d.Create(context.Background(), spec)
		if err == nil {
			_ = d.Remove(context.Background(), id)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v, want %q", c.image, c.user, err, c.want)
		}
	}
	for further, want := range map[string]string{"audio": "1000\n1001\n1001 10 11\n/home/app\n", "77 wheel": "1000\n1001\n1001 10 11 77\n/home/app\n"} {
		spec := inImage("i", show)
		spec.User = engine.User{Name: "app", Further: strings.Fields(further)}
		if r := run(t, d, spec); r.out != want {
			t.Errorf("with %s: %q, want %q %s", further, r.out, want, r.errs)
		}
	}
	spec := inImage("i", show)
	spec.User.Further = []string{"staff"}
	if _, err := d.Create(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "unable to find group staff") {
		t.Errorf("a group that is not there: %v", err)
	}
	// a program that is run in it: the users are those of now
	id := started(t, d, inImage("i", "echo 'new:x:500:501::/n:' >> /etc/passwd; echo ready; sleep 1000"))
	await(t, "the new user is there", func() bool { out, _ := output(t, d, id); return out == "ready\n" })
	var out strings.Builder
	if _, err := d.Exec(context.Background(), id, engine.ExecSpec{Command: []string{"sh", "-c", show}, User: &engine.User{Name: "new"}},
		engine.Streams{Stdout: &out}); err != nil || out.String() != "500\n501\n501\n/n\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, err := d.Exec(context.Background(), id, engine.ExecSpec{Command: []string{"true"}, User: &engine.User{Name: "nobody"}}, engine.Streams{}); err == nil ||
		!strings.Contains(err.Error(), "unable to find user nobody") {
		t.Error(err)
	}
	// and of a prepared root
	if r := sh(t, d, "id -u", func(s *engine.Spec) { s.User.Name = "nobody" }); r.out != "65534\n" {
		t.Errorf("%q %q", r.out, r.errs)
	}
}
