package ecr

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/registry"
)

// debian is a layer with two packages of Debian.
func debian(t testing.TB) []byte {
	return tree(t, map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=12\n",
		"var/lib/dpkg/status": "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.11-1\n\n" +
			"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.2.13\n",
	})
}

// feed writes a feed of two vulnerabilities of openssl.
func (h *harness) feed() {
	h.t.Helper()
	h.Feed = h.t.TempDir()
	for i, level := range []string{"LOW", "CRITICAL"} {
		h.must(os.WriteFile(filepath.Join(h.Feed, fmt.Sprint(i, ".json")), []byte(fmt.Sprintf(`{"id":"CVE-2026-%d","modified":"2026-11-0%dT00:00:00Z","summary":"bad","database_specific":{"severity":%q},
			"affected":[{"package":{"ecosystem":"Debian:12","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.12-1"}]}]}]}`, i, i+1, level)), 0o600))
	}
}

func (h *harness) scanAll() {
	h.t.Helper()
	_, err := h.scanImages(h.t.Context())
	h.must(err)
}

func (h *harness) findings(name, tag string) *api.DescribeImageScanFindingsOutput {
	h.t.Helper()
	return do(h, h.DescribeImageScanFindings, &api.DescribeImageScanFindingsInput{RepositoryName: &name, ImageId: &api.ImageIdentifier{ImageTag: &tag}})
}

func (h *harness) startScan(tag string) *api.StartImageScanInput {
	return &api.StartImageScanInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageTag: &tag}}
}

func TestScanWithFeed(t *testing.T) {
	h := newHarness(t)
	h.feed()
	h.create("app")
	digest := h.image("app", "1", debian(t), "v1")
	refuse(h, h.DescribeImageScanFindings, &api.DescribeImageScanFindingsInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageTag: new("v1")}}, "ScanNotFoundException", "")
	refuse(h, h.StartImageScan, h.startScan("none"), "ImageNotFoundException", "")
	is(h, "started", *do(h, h.StartImageScan, h.startScan("v1")).ImageScanStatus.Status, "IN_PROGRESS")
	is(h, "woken", strings.Join(h.woken, " "), scanLoop)
	is(h, "before the loop", *h.findings("app", "v1").ImageScanStatus.Status, "IN_PROGRESS")
	h.scanAll()
	out := h.findings("app", "v1")
	is(h, "status", *out.ImageScanStatus.Status, "COMPLETE")
	is(h, "description", *out.ImageScanStatus.Description, "The scan found 2 packages.")
	is(h, "digest", *out.ImageId.ImageDigest, digest)
	f := out.ImageScanFindings
	is(h, "counts", fmt.Sprint(f.FindingSeverityCounts), "map[CRITICAL:1 LOW:1]")
	is(h, "feed", f.VulnerabilitySourceUpdatedAt.Format(time.DateOnly), "2026-11-02")
	attributes := map[string]string{}
	for _, a := range f.Findings[0].Attributes {
		attributes[*a.Key] = *a.Value
	}
	is(h, "finding", *f.Findings[0].Name+" "+*f.Findings[0].Severity+" "+*f.Findings[0].Description, "CVE-2026-1 CRITICAL bad")
	is(h, "attributes", fmt.Sprint(attributes), "map[package_name:libssl3 package_path:var/lib/dpkg/status package_version:3.0.11-1 patched_version:3.0.12-1]")
	in := &api.DescribeImageScanFindingsInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageDigest: &digest}, MaxResults: new(int32(1))}
	page := do(h, h.DescribeImageScanFindings, in)
	in.NextToken = page.NextToken
	last := do(h, h.DescribeImageScanFindings, in)
	is(h, "pages", *last.ImageScanFindings.Findings[0].Name+fmt.Sprint(last.NextToken == nil), "CVE-2026-0true")
	d := do(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app")}).ImageDetails[0]
	is(h, "described", *d.ImageScanStatus.Status+fmt.Sprint(d.ImageScanFindingsSummary.FindingSeverityCounts), "COMPLETEmap[CRITICAL:1 LOW:1]")

	refuse(h, h.StartImageScan, h.startScan("v1"), "LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.")
	h.clock.Advance(24 * time.Hour)
	do(h, h.StartImageScan, h.startScan("v1"))
}

func TestScanWithoutFeed(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	h.image("app", "1", debian(t), "v1")
	do(h, h.StartImageScan, h.startScan("v1"))
	h.scanAll()
	out := h.findings("app", "v1")
	is(h, "status", *out.ImageScanStatus.Status, "FINDINGS_UNAVAILABLE")
	is(h, "description", *out.ImageScanStatus.Description, "The scan found 2 packages. They were not looked up, as no feed of vulnerabilities is given: the findings list the packages.")
	is(h, "packages", *out.ImageScanFindings.Findings[0].Name+" "+*out.ImageScanFindings.Findings[1].Name, "Debian:12/libssl3 Debian:12/zlib1g")
	is(h, "counts", fmt.Sprint(out.ImageScanFindings.FindingSeverityCounts), "map[INFORMATIONAL:2]")
}

func TestScansThatFail(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	h.image("app", "1", bytes.Repeat([]byte("no archive"), 200), "text")
	h.image("app", "2", tree(t, map[string]string{"hello": "world"}), "scratch")
	h.image("app", "3", tree(t, map[string]string{"zeros": strings.Repeat("0", 1<<20)}), "large")
	h.put("app", h.index(h.image("app", "4", debian(t), "v1")), "index")
	refuse(h, h.StartImageScan, h.startScan("index"), "UnsupportedImageTypeException", "")
	for _, tag := range []string{"text", "scratch", "large"} {
		do(h, h.StartImageScan, h.startScan(tag))
	}
	h.limits.Bytes = 1 << 19
	h.scanAll()
	is(h, "text", *h.findings("app", "text").ImageScanStatus.Status, "FAILED")
	is(h, "scratch", *h.findings("app", "scratch").ImageScanStatus.Status, "UNSUPPORTED_IMAGE")
	is(h, "large", *h.findings("app", "large").ImageScanStatus.Status, "LIMIT_EXCEEDED")
	do(h, h.StartImageScan, h.startScan("text")) // what failed may be tried again
	do(h, h.BatchDeleteImage, &api.BatchDeleteImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageTag: new("text")}}})
	report, err := h.scanImages(t.Context())
	h.must(err)
	is(h, "of an image that is gone", report, "0 images")
}

func TestScanOnPush(t *testing.T) {
	h := newHarness(t)
	h.feed()
	h.create("app", "prod/web", "dev/web")
	status := func(name string) string {
		h.t.Helper()
		h.scanAll()
		d := do(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: &name, ImageIds: []api.ImageIdentifier{{ImageTag: new("v1")}}}).ImageDetails[0]
		if d.ImageScanStatus == nil {
			return ""
		}
		return *d.ImageScanStatus.Status
	}
	h.image("app", "1", debian(t), "v1")
	is(h, "off", status("app"), "")
	do(h, h.PutImageScanningConfiguration, &api.PutImageScanningConfigurationInput{RepositoryName: new("app"), ImageScanningConfiguration: &api.ImageScanningConfiguration{ScanOnPush: new(true)}})
	h.image("app", "2", debian(t), "v1")
	is(h, "of the repository", status("app"), "COMPLETE")

	rules := func(frequency, filter string) []api.RegistryScanningRule {
		return []api.RegistryScanningRule{{ScanFrequency: &frequency, RepositoryFilters: []api.ScanningRepositoryFilter{{Filter: &filter, FilterType: new("WILDCARD")}}}}
	}
	refuse(h, h.PutRegistryScanningConfiguration, &api.PutRegistryScanningConfigurationInput{ScanType: new("ENHANCED")}, "ValidationException", "")
	refuse(h, h.PutRegistryScanningConfiguration, &api.PutRegistryScanningConfigurationInput{ScanType: new("BASIC"), Rules: rules("CONTINUOUS_SCAN", "*")}, "ValidationException", "")
	do(h, h.PutRegistryScanningConfiguration, &api.PutRegistryScanningConfigurationInput{ScanType: new("BASIC"), Rules: rules("SCAN_ON_PUSH", "prod*")})
	c := do(h, h.GetRegistryScanningConfiguration, &api.GetRegistryScanningConfigurationInput{}).ScanningConfiguration
	is(h, "configuration", *c.ScanType+*c.Rules[0].ScanFrequency+*c.Rules[0].RepositoryFilters[0].Filter, "BASICSCAN_ON_PUSHprod*")
	h.image("prod/web", "3", debian(t), "v1")
	h.image("dev/web", "4", debian(t), "v1")
	is(h, "of the registry", status("prod/web"), "COMPLETE")
	is(h, "of no rule", status("dev/web"), "")
	out := do(h, h.BatchGetRepositoryScanningConfiguration, &api.BatchGetRepositoryScanningConfigurationInput{RepositoryNames: []string{"app", "prod/web", "dev/web", "none"}})
	var got []string
	for _, r := range out.ScanningConfigurations {
		got = append(got, fmt.Sprint(*r.RepositoryName, *r.ScanOnPush, *r.ScanFrequency, len(r.AppliedScanFilters)))
	}
	is(h, "repositories", strings.Join(got, " "), "apptrueSCAN_ON_PUSH0 prod/webtrueSCAN_ON_PUSH1 dev/webfalseMANUAL0")
	is(h, "failures", *out.Failures[0].RepositoryName+*out.Failures[0].FailureCode, "noneREPOSITORY_NOT_FOUND")
}

// A layer that is kept elsewhere is named, and the others are read.
func TestScanOfForeignLayers(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	body := strings.Replace(h.manifest("app", "1", debian(t)), `"layers":[`, `"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"sha256:`+
		strings.Repeat("0", 64)+`","size":1,"urls":["https://example.com/layer"]},`, 1)
	h.put("app", body, "v1")
	do(h, h.StartImageScan, h.startScan("v1"))
	h.scanAll()
	got := *h.findings("app", "v1").ImageScanStatus
	if *got.Status != "FINDINGS_UNAVAILABLE" || !strings.HasPrefix(*got.Description, "The scan found 2 packages. 1 files could not be read: layer sha256:0000") {
		t.Errorf("got %s: %s", *got.Status, *got.Description)
	}
}

// The layers of an image that is being pulled through come later: its scan waits
// for an hour.
func TestScanWaitsForLayers(t *testing.T) {
	h := newHarness(t)
	h.at(account, "us-east-1", func() {
		h.create("app")
		h.image("app", "1", debian(t), "v1")
		h.image("app", "2", tree(t, map[string]string{"never": "asked for"}), "v2")
	})
	do(h, h.CreatePullThroughCacheRule, &api.CreatePullThroughCacheRuleInput{EcrRepositoryPrefix: new("far"), UpstreamRegistryUrl: new(account + ".dkr.ecr.us-east-1.amazonaws.com")})
	do(h, h.PutRegistryScanningConfiguration, &api.PutRegistryScanningConfigurationInput{ScanType: new("BASIC"), Rules: []api.RegistryScanningRule{
		{ScanFrequency: new("SCAN_ON_PUSH"), RepositoryFilters: []api.ScanningRepositoryFilter{{Filter: new("far*"), FilterType: new("WILDCARD")}}}}})
	status := func(tag string) string {
		h.t.Helper()
		h.scanAll()
		return *h.findings("far/app", tag).ImageScanStatus.Status
	}
	for _, tag := range []string{"v1", "v2"} {
		is(h, "pull", h.pull(h.scope, "GET", "/v2/far/app/manifests/"+tag), 200)
		is(h, "without layers", status(tag), "IN_PROGRESS")
	}
	is(h, "pull", h.pull(h.scope, "GET", "/v2/far/app/blobs/"+registry.Digest(debian(t))), 200)
	is(h, "not yet again", status("v1"), "IN_PROGRESS")
	h.clock.Advance(time.Minute)
	is(h, "with its layer", status("v1"), "FINDINGS_UNAVAILABLE")
	is(h, "without", status("v2"), "IN_PROGRESS")
	h.clock.Advance(time.Hour)
	is(h, "an hour later", status("v2"), "FAILED")
}
