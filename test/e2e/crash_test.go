package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

var (
	crashRounds = flag.Int("crash-rounds", 50, "how often TestCrash kills the server")
	crashSeed   = flag.Uint64("crash-seed", 0, "seed of TestCrash; 0 draws one")
)

// crashWriters is how many clients write at once, and crashSlots how many keys
// each of them has.
const (
	crashWriters = 8
	crashSlots   = 12
)

// slot is a key that one client writes. want is the last acknowledged content;
// tried is what was under way, and may or may not be there.
type slot struct {
	key         string
	want, tried string // "" is: no object
}

// TestCrash kills the server at a random instant while clients write, starts it
// again, and checks that every acknowledged write is there and none is half
// there.
func TestCrash(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := start(t)
	if _, err := s.s3(3).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("crash")}); err != nil {
		t.Fatal(err)
	}
	slots := make([][]slot, crashWriters)
	for w := range slots {
		for i := range crashSlots {
			slots[w] = append(slots[w], slot{key: fmt.Sprintf("w%d/%02d", w, i)})
		}
	}
	users := map[string]bool{}
	for round := range *crashRounds {
		life := time.Duration(20+rng.IntN(180)) * time.Millisecond
		writeUntilKilled(t, s, slots, users, round, rng.Uint64(), life)
		s.restart()
		checkSlots(t, s, slots)
		checkUsers(t, s, users)
		if t.Failed() {
			t.Fatalf("round %d of seed %d", round, seed)
		}
	}
}

// writeUntilKilled lets the clients write and kills the server after a while.
func writeUntilKilled(t *testing.T, s *server, slots [][]slot, users map[string]bool, round int, seed uint64, life time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for w := range slots {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			c := s.s3(1)
			for ctx.Err() == nil {
				write(ctx, c, &slots[w][rng.IntN(crashSlots)], rng)
			}
		})
	}
	wg.Go(func() {
		c := s.iam(1)
		for n := 0; ctx.Err() == nil; n++ {
			name := fmt.Sprintf("r%d-%d", round, n)
			if _, err := c.CreateUser(ctx, &iam.CreateUserInput{UserName: &name}); err == nil {
				users[name] = true
			}
		}
	})
	kill := time.NewTimer(life)
	defer kill.Stop()
	<-kill.C
	s.kill()
	cancel()
	wg.Wait()
}

// write puts or deletes one object, small or large, and remembers what the
// server said. A slot whose last write was not acknowledged is settled first.
func write(ctx context.Context, c *s3.Client, sl *slot, rng *rand.Rand) {
	if sl.tried != sl.want {
		return // the server is dead, or about to be found so; the check settles it
	}
	if rng.IntN(6) == 0 {
		sl.tried = ""
		if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("crash"), Key: &sl.key}); err == nil {
			sl.want = ""
		}
		return
	}
	size := rng.IntN(4 << 10)
	if rng.IntN(8) == 0 {
		size = 256<<10 + rng.IntN(1<<20)
	}
	b := make([]byte, size+16)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	sl.tried = digest(b)
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("crash"), Key: &sl.key, Body: bytes.NewReader(b)}); err == nil {
		sl.want = sl.tried
	}
}

// checkSlots reads every key: what is there is the acknowledged content, or all
// of what was under way.
func checkSlots(t *testing.T, s *server, slots [][]slot) {
	t.Helper()
	c := s.s3(3)
	listed := listKeys(t, c)
	for w := range slots {
		for i := range slots[w] {
			sl := &slots[w][i]
			got := ""
			out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("crash"), Key: &sl.key})
			if err == nil {
				b, rerr := io.ReadAll(out.Body)
				out.Body.Close()
				if rerr != nil {
					t.Errorf("%s: %v", sl.key, rerr)
				}
				got = digest(b)
			} else if _, none := errors.AsType[*s3types.NoSuchKey](err); !none {
				t.Errorf("%s: %v", sl.key, err)
				continue
			}
			if got != sl.want && got != sl.tried {
				t.Errorf("%s holds %.8s; acknowledged is %.8s, under way was %.8s", sl.key, got, sl.want, sl.tried)
			}
			if listed[sl.key] != (got != "") {
				t.Errorf("%s: listed %v, there %v", sl.key, listed[sl.key], got != "")
			}
			sl.want, sl.tried = got, got
		}
	}
}

func listKeys(t *testing.T, c *s3.Client) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: aws.String("crash")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys[*o.Key] = true
		}
	}
	return keys
}

// checkUsers looks for every user whose creation was acknowledged.
func checkUsers(t *testing.T, s *server, users map[string]bool) {
	t.Helper()
	found := map[string]bool{}
	pages := iam.NewListUsersPaginator(s.iam(3), &iam.ListUsersInput{MaxItems: aws.Int32(1000)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Users {
			found[*u.UserName] = true
		}
	}
	for name := range users {
		if !found[name] {
			t.Errorf("the user %s was acknowledged and is gone", name)
		}
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
