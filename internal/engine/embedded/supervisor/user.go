//go:build linux && amd64

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/rootfs"
)

// maxUsers is how long a container's /etc/passwd or /etc/group may be, in bytes.
const maxUsers = 4 << 20

// maxID is the highest user or group id of a container.
const maxID = 65534

// lookup finds who a user is in a root, with all groups, and the user's home folder.
func lookup(root int, u engine.User) (engine.User, string, error) {
	out, dir, err := lookupName(root, u)
	if err != nil || len(u.Further) == 0 {
		return out, dir, err
	}
	groups, err := entries(root, "/etc/group", 4)
	for _, name := range u.Further {
		number, ok := groupID(groups, name)
		if err == nil && !ok {
			err = fmt.Errorf("engine: %w: unable to find group %s: no matching entries in group file", engine.ErrInvalid, name)
		}
		out.Groups = append(out.Groups, number)
	}
	out.Further = nil
	return withGroups(out), dir, err
}

// groupID is the number of a group of a name or number.
func groupID(groups [][]string, name string) (number uint32, ok bool) {
	number, ok = parseID(name)
	i := slices.IndexFunc(groups, func(e []string) bool { return e[0] == name || ok && isID(e[2], number) })
	if i >= 0 {
		return parseID(groups[i][2])
	}
	return number, ok
}

// lookupName finds who a user's name means in a root, and the user's home folder. The
// files are the container's: nothing in them is trusted, and what cannot be
// understood is passed over. The rules and the texts are Docker's.
func lookupName(root int, u engine.User) (engine.User, string, error) {
	passwd, err := entries(root, "/etc/passwd", 7)
	if err != nil {
		return u, "", err
	}
	if u.Name == "" {
		if i := slices.IndexFunc(passwd, func(e []string) bool { return isID(e[2], u.UID) }); i >= 0 {
			return u, home(passwd[i]), nil
		}
		return u, "/", nil
	}
	name, group, _ := strings.Cut(u.Name, ":")
	out := engine.User{Groups: slices.Clone(u.Groups)}
	dir, found := "/", ""
	number, isNumber := parseID(name)
	i := slices.IndexFunc(passwd, func(e []string) bool {
		return e[0] == name || isNumber && isID(e[2], number) || name == "" && isID(e[2], 0)
	})
	switch {
	case i >= 0:
		uid, ok1 := parseID(passwd[i][2])
		gid, ok2 := parseID(passwd[i][3])
		if !ok1 || !ok2 {
			return u, "", fmt.Errorf("engine: %w: user %s has the ids %s:%s, which no container has", engine.ErrInvalid, name, passwd[i][2], passwd[i][3])
		}
		out.UID, out.GID, found, dir = uid, gid, passwd[i][0], home(passwd[i])
	case isNumber:
		out.UID = number
	case name != "":
		return u, "", fmt.Errorf("engine: %w: unable to find user %s: no matching entries in passwd file", engine.ErrInvalid, name)
	}
	if group == "" && found == "" {
		return withGroups(out), dir, nil
	}
	groups, err := entries(root, "/etc/group", 4)
	if err != nil {
		return u, "", err
	}
	if group != "" {
		number, ok := groupID(groups, group)
		if !ok {
			return u, "", fmt.Errorf("engine: %w: unable to find group %s: no matching entries in group file", engine.ErrInvalid, group)
		}
		out.GID = number
		return withGroups(out), dir, nil
	}
	for _, e := range groups {
		if gid, ok := parseID(e[2]); ok && slices.Contains(strings.Split(e[3], ","), found) && len(out.Groups) < 1<<16 {
			out.Groups = append(out.Groups, gid)
		}
	}
	return withGroups(out), dir, nil
}

// withGroups has the user's own group among the others, as with Docker.
func withGroups(u engine.User) engine.User {
	all := append([]uint32{u.GID}, u.Groups...)
	u.Groups = nil
	for _, g := range all {
		if !slices.Contains(u.Groups, g) {
			u.Groups = append(u.Groups, g)
		}
	}
	return u
}

func home(e []string) string {
	if strings.HasPrefix(e[5], "/") {
		return e[5]
	}
	return "/"
}

func parseID(text string) (uint32, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil && n <= maxID
}

func isID(text string, id uint32) bool {
	n, ok := parseID(text)
	return ok && n == id
}

// entries reads the lines of such a file that have so many parts, at least.
func entries(root int, path string, parts int) (all [][]string, err error) {
	text, err := rootfs.ReadFile(root, path, maxUsers)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("engine: users of the root: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		e := strings.Split(line, ":")
		for len(e) < parts {
			e = append(e, "")
		}
		all = append(all, e)
	}
	return all, nil
}

// resolve finds a container's user, and gives an image's a home; c.mu is held.
func (s *supervisor) resolve(c *container) error {
	if c.user.Name == "" && c.spec.Root.Image == "" {
		return nil
	}
	u, dir, err := lookup(c.ready.root, c.user)
	if err != nil {
		return err
	}
	c.user, c.home = u, dir
	return nil
}

// withHome is an environment with a home folder, unless it has one or there is
// none.
func withHome(env []string, dir string) []string {
	if dir == "" || hasHome(env) {
		return env
	}
	return append(slices.Clone(env), "HOME="+dir)
}

func hasHome(env []string) bool {
	return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") })
}

// resolveIn finds the user of a program that is run in a container; c.mu is held.
func (s *supervisor) resolveIn(c *container, x *execution) error {
	if x.user.Name == "" && (c.spec.Root.Image == "" || hasHome(x.env)) {
		return nil
	}
	root, err := s.rootOf(c)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	u, dir, err := lookup(root, x.user)
	if err != nil {
		return err
	}
	x.user, x.env = u, withHome(x.env, dir)
	return nil
}
