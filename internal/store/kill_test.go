package store_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/store"
)

const childFolder = "SKERRY_STORE_TEST_CHILD" // set: this process writes to the folder until it is killed

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		writeForever(dir)
	}
	os.Exit(m.Run())
}

// writeForever writes rows from several goroutines and prints the key of each that
// was acknowledged.
func writeForever(dir string) {
	db, err := store.Open(dir, store.Options{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	run := time.Now().UnixNano()
	var mu sync.Mutex
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%d-%d-%d", run, w, n)
				err := db.Update(context.Background(), func(tx *store.Tx) error {
					if err := bytes1k.Put(tx, store.K(key), make([]byte, rand.IntN(2000))); err != nil {
						return err
					}
					return items.Put(tx, &item{ID: key, Owner: key})
				})
				mu.Lock()
				if err != nil {
					fmt.Println("error", err)
				} else {
					fmt.Println(key)
				}
				mu.Unlock()
			}
		}()
	}
	select {}
}

// TestKill kills a process that writes, again and again, and looks for what it has
// acknowledged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]bool{}
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childFolder+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n, last := 0, 1+rand.IntN(1000); lines.Scan(); n++ {
			key := lines.Text()
			if strings.HasPrefix(key, "error") {
				t.Error(key)
			}
			if n <= last { // later lines may be cut
				acked[key] = true
			}
			if n == last {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		begin := time.Now()
		db, err := store.Open(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d acknowledged, opened in %v", len(acked), time.Since(begin))
		err = db.View(t.Context(), func(tx *store.Tx) error {
			there, whole := map[store.Key]bool{}, 0
			for e, err := range bytes1k.Scan(tx, store.Range{}) {
				if err != nil {
					return err
				}
				there[e.Key] = true
			}
			for row, err := range byOwner.Scan(tx, store.Range{}) {
				if err != nil {
					return err
				}
				if there[store.K(row.ID)] {
					whole++
				}
			}
			if whole != len(there) {
				return fmt.Errorf("%d transactions, %d of them whole", len(there), whole)
			}
			for key := range acked {
				if !there[store.K(key)] {
					return fmt.Errorf("%s was acknowledged and is gone", key)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
