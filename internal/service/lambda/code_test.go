package lambda

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/awserr"
	"skerry/internal/blob"
	"skerry/internal/store"
)

// entry is one entry of a zip file that no decent tool would write.
type entry struct {
	name, body string
	mode       fs.FileMode
	claims     uint64 // the size it claims, if not its own
}

func hostile(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.mode == 0 {
			e.mode = 0o644
		}
		h.SetMode(e.mode)
		if e.claims > 0 {
			h.Method = zip.Store
			h.UncompressedSize64, h.CompressedSize64 = e.claims, uint64(len(e.body))
			w, err := z.CreateRaw(h)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write([]byte(e.body))
			continue
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCodeRefused(t *testing.T) {
	w := newWorld(t, nil)
	const bad = "Could not unzip uploaded file. Please check your file, then try to upload again."
	for _, c := range []struct {
		name string
		zip  []byte
		text string
	}{
		{"not a zip file", []byte("hello"), bad},
		{"empty", hostile(t), "Uploaded file must be a non-empty zip"},
		{"parent", hostile(t, entry{name: "../x", body: "x"}), bad},
		{"deep parent", hostile(t, entry{name: "a/../../x", body: "x"}), bad},
		{"absolute", hostile(t, entry{name: "/etc/x", body: "x"}), bad},
		{"backslash parent", hostile(t, entry{name: `..\x`, body: "x"}), bad},
		{"too big", hostile(t, entry{name: "x", body: "x", claims: 300 << 20}), "Unzipped size must be smaller than 262144000 bytes"},
	} {
		_, err := w.CreateFunction(t.Context(), w.scope, &api.CreateFunctionInput{FunctionName: new("f"), Runtime: new("python3.11"),
			Handler: new("a.b"), Role: new(role), Code: &api.FunctionCode{ZipFile: c.zip}})
		if awserr.Code(err) != "InvalidParameterValueException" || !strings.HasSuffix(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestUnpackStaysInside(t *testing.T) {
	w := newWorld(t, nil)
	outside := filepath.Join(t.TempDir(), "outside")
	for name, z := range map[string][]byte{
		"through a link":      hostile(t, entry{name: "out", body: filepath.Dir(outside), mode: fs.ModeSymlink | 0o777}, entry{name: "out/outside", body: "x"}),
		"through a link up":   hostile(t, entry{name: "a/b", body: "../../..", mode: fs.ModeSymlink | 0o777}, entry{name: "a/b/outside", body: "x"}),
		"over a link to it":   hostile(t, entry{name: "out", body: outside, mode: fs.ModeSymlink | 0o777}, entry{name: "out", body: "x"}),
		"setuid is taken off": hostile(t, entry{name: "x", body: "x", mode: fs.ModeSetuid | 0o755}),
	} {
		c, err := w.keep(t.Context(), bytes.NewReader(z))
		if err != nil {
			t.Fatal(err)
		}
		dir, err := w.codeDir(t.Context(), c.Ref)
		if err == nil {
			if info, err := os.Lstat(filepath.Join(dir, "x")); err == nil && info.Mode()&fs.ModeSetuid != 0 {
				t.Errorf("%s: %v", name, info.Mode())
			}
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Fatalf("%s: it wrote outside", name)
		}
	}
	left := int64(10)
	c, err := w.keep(t.Context(), bytes.NewReader(hostile(t, entry{name: "x", body: strings.Repeat("x", 100)})))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.unpack(t.Context(), c.Ref, t.TempDir(), &left); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a zip bomb: %v", err)
	}
}

// Code that cannot be unpacked is refused, and what was there before stays in use.
func TestBadCodeIsRefused(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.create("f", "echo")
	z := hostile(t, entry{name: "out", body: "/etc", mode: fs.ModeSymlink | 0o777}, entry{name: "out/outside", body: "x"})
	const text = "InvalidParameterValueException: Could not unzip uploaded file. Please check your file, then try to upload again."
	_, err := w.CreateFunction(t.Context(), w.scope, &api.CreateFunctionInput{FunctionName: new("g"), Runtime: new("provided.al2023"),
		Handler: new("h"), Role: new(role), Code: &api.FunctionCode{ZipFile: z}})
	if err == nil || err.Error() != text {
		t.Errorf("create: %v", err)
	}
	_, err = w.UpdateFunctionCode(t.Context(), w.scope, &api.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: z})
	if err == nil || err.Error() != text {
		t.Errorf("update: %v", err)
	}
	if out := w.invoke("f", "1"); string(out.Payload) != "1" {
		t.Errorf("%s", out.Payload)
	}
}

// Layers that cannot lie over each other make the function Failed, for good.
func TestBadLayersFail(t *testing.T) {
	w := newWorld(t, nil)
	var layers []string
	for _, name := range []string{"a", "a/b"} {
		out, err := w.PublishLayerVersion(t.Context(), w.scope, &api.PublishLayerVersionInput{LayerName: new("l" + fmt.Sprint(len(layers))),
			Content: &api.LayerVersionContentInput{ZipFile: hostile(t, entry{name: name, body: "x"})}})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, *out.LayerVersionArn)
	}
	_, err := w.CreateFunction(t.Context(), w.scope, &api.CreateFunctionInput{FunctionName: new("f"), Runtime: new("provided.al2023"),
		Handler: new("h"), Role: new(role), Layers: layers, Code: &api.FunctionCode{ZipFile: hostile(t, entry{name: "bootstrap", body: "x"})}})
	if err != nil {
		t.Fatal(err)
	}
	var got *api.GetFunctionConfigurationOutput
	w.until("it has failed", func() bool {
		got, err = w.GetFunctionConfiguration(t.Context(), w.scope, &api.GetFunctionConfigurationInput{FunctionName: new("f")})
		return err == nil && *got.State == stateFailed
	})
	if *got.StateReasonCode != "InvalidZipFileException" {
		t.Errorf("%s: %s", *got.StateReasonCode, *got.StateReason)
	}
	if _, err := w.Invoke(t.Context(), w.scope, &api.InvokeInput{FunctionName: new("f")}); awserr.Code(err) != "ResourceConflictException" {
		t.Errorf("invoke: %v", err)
	}
}

func TestModesAreKept(t *testing.T) {
	w := newWorld(t, nil)
	c, err := w.keep(t.Context(), bytes.NewReader(hostile(t, entry{name: "bin/run", body: "x", mode: 0o755}, entry{name: "lib.py", body: "x"},
		entry{name: "link", body: "bin/run", mode: fs.ModeSymlink | 0o777})))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := w.codeDir(t.Context(), c.Ref)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"bin/run": 0o755, "lib.py": 0o644, "link": fs.ModeSymlink | 0o777} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

func TestCodeFromS3(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.objects["bucket/key"] = zipped(t, map[string]string{"bootstrap": "", "program": "echo"})
	w.create("f", "", func(in *api.CreateFunctionInput) {
		in.Code = &api.FunctionCode{S3Bucket: new("bucket"), S3Key: new("key")}
	})
	if out := w.invoke("f", "1"); string(out.Payload) != "1" {
		t.Errorf("%s", out.Payload)
	}
	_, err := w.UpdateFunctionCode(t.Context(), w.scope, &api.UpdateFunctionCodeInput{FunctionName: new("f"), S3Bucket: new("bucket"), S3Key: new("no")})
	if err == nil || err.Error() != "InvalidParameterValueException: Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist." {
		t.Error(err)
	}
}

func TestSweep(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.create("kept", "echo")
	w.create("gone", "gone")
	ref := func(name string) (r blob.Ref) {
		_ = w.Store.View(t.Context(), func(tx *store.Tx) error {
			v, err := versions.Get(tx, store.K(account, region, name, 0))
			r = v.Code.Ref
			return err
		})
		return r
	}
	kept, gone := ref("kept"), ref("gone")
	if _, err := w.DeleteFunction(t.Context(), w.scope, &api.DeleteFunctionInput{FunctionName: new("gone")}); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Second)
	if err := w.sweepBlob(t.Context(), gone, later); err != nil {
		t.Fatal(err)
	}
	if err := w.sweepBlob(t.Context(), kept, later); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Blobs.Open(t.Context(), gone, blob.OpenOptions{}); err == nil {
		t.Error("the code of a deleted function is still there")
	}
	if w.invoke("kept", "1").FunctionError != nil {
		t.Error("code in use is gone")
	}
	if n := w.sweepFolders(map[string]bool{folderOf([]blob.Ref{kept}): true}, later); n != 1 {
		t.Errorf("%d folders", n)
	}
}
