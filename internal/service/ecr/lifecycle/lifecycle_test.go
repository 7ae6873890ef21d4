package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ago(days float64) time.Time { return now.Add(-time.Duration(days * 24 * float64(time.Hour))) }

// rule writes a rule that expires.
func rule(priority int, selection string) string {
	return fmt.Sprintf(`{"rulePriority":%d,"selection":{%s},"action":{"type":"expire"}}`, priority, selection)
}

func archive(priority int, selection string) string {
	return strings.Replace(rule(priority, selection), `"type":"expire"`, `"type":"transition","targetStorageClass":"archive"`, 1)
}

func policy(rules ...string) string { return `{"rules":[` + strings.Join(rules, ",") + `]}` }

const (
	anyFive = `"tagStatus":"any","countType":"imageCountMoreThan","countNumber":5`
	old     = `"countType":"sinceImagePushed","countUnit":"days","countNumber":14`
)

func prefixed(n int, prefixes ...string) string {
	return fmt.Sprintf(`"tagStatus":"tagged","tagPrefixList":%s,"countType":"imageCountMoreThan","countNumber":%d`, quoted(prefixes), n)
}

func TestParse(t *testing.T) {
	p, err := Parse(policy(
		archive(7, `"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":90`),
		rule(2, `"tagStatus":"tagged","tagPatternList":["*-release-*"],`+old),
		rule(9, `"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":365`),
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []Rule{
		{Priority: 2, Selection: Selection{TagStatus: Tagged, Patterns: []string{"*-release-*"}, CountType: SinceImagePushed, CountUnits: 14}, Action: Expire},
		{Priority: 7, Selection: Selection{TagStatus: Any, CountType: SinceImagePulled, CountUnits: 90}, Action: Archive},
		{Priority: 9, Selection: Selection{TagStatus: Any, Archived: true, CountType: SinceImageTransitioned, CountUnits: 365}, Action: Expire},
	}
	if got, want := fmt.Sprint(p.Rules), fmt.Sprint(want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	untagged := `"tagStatus":"untagged",` + old
	tooMany := make([]string, 51)
	for i := range tooMany {
		tooMany[i] = rule(i+1, prefixed(1, fmt.Sprint("p", i)))
	}
	for _, c := range []struct{ text, want string }{
		{`no json`, "Could not map policyString into LifecyclePolicy."},
		{`[]`, "Could not map policyString into LifecyclePolicy."},
		{`{"rules":[]} {}`, "Could not map policyString into LifecyclePolicy."},
		{`null`, "Could not map policyString into LifecyclePolicy."},
		{`{}`, `object has missing required properties (["rules"])`},
		{`{"rules":null}`, `instance type (null) does not match any allowed primitive type (allowed: ["array"])`},
		{`{"rules":[]}`, `array is too short: must have at least 1 elements but instance has 0 elements`},
		{policy(tooMany...), `array is too long: must have at most 50 elements but instance has 51 elements`},
		{`{"rules":[],"more":1}`, `object instance has properties which are not allowed by the schema: ["more"]`},
		{policy(`"text"`), `instance type (string) does not match any allowed primitive type (allowed: ["object"])`},
		{policy(`{}`), `object has missing required properties (["action","rulePriority","selection"])`},
		{policy(strings.Replace(rule(1, anyFive), `:1,`, `:"1",`, 1)), `instance type (string) does not match any allowed primitive type (allowed: ["integer"])`},
		{policy(strings.Replace(rule(1, anyFive), `:1,`, `:1.5,`, 1)), `instance type (number) does not match any allowed primitive type (allowed: ["integer"])`},
		{policy(rule(0, anyFive)), "numeric instance is lower than the required minimum (minimum: 1, found: 0)"},
		{policy(rule(1, `"tagStatus":"any","countType":"imageCountMoreThan","countNumber":0`)), "numeric instance is lower than the required minimum (minimum: 1, found: 0)"},
		{policy(rule(1, `"tagStatus":"some",`+old)), `instance value ("some") not found in enum (possible values: ["any","tagged","untagged"])`},
		{policy(rule(1, `"tagStatus":"any","countType":"imageAge","countNumber":1`)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(rule(1, anyFive+`,"countUnit":"days"`)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(rule(1, `"tagStatus":"any","countType":"sinceImagePushed","countNumber":1`)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(rule(1, `"tagStatus":"any","countType":"sinceImagePushed","countUnit":"weeks","countNumber":1`)), `instance value ("weeks") not found in enum (possible values: ["days"])`},
		{policy(rule(1, `"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":9`)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(rule(1, anyFive+`,"storageClass":"archive"`)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(rule(1, `"tagStatus":"any","countType":"sinceImageTransitioned","countUnit":"days","countNumber":90`)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(rule(1, `"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":89`)), "numeric instance is lower than the required minimum (minimum: 90, found: 89)"},
		{policy(archive(1, `"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":90`)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(strings.Replace(rule(1, anyFive), `"expire"`, `"keep"`, 1)), `instance value ("keep") not found in enum (possible values: ["expire","transition"])`},
		{policy(strings.Replace(rule(1, anyFive), `"expire"`, `"transition"`, 1)), `object has missing required properties (["targetStorageClass"])`},
		{policy(strings.Replace(rule(1, anyFive), `"expire"`, `"expire","targetStorageClass":null`, 1)), "instance failed to match exactly one schema (matched 0 out of 4)"},
		{policy(rule(1, `"tagStatus":"any","tagPrefixList":null,`+old)), `instance type (null) does not match any allowed primitive type (allowed: ["array"])`},
		{policy(rule(1, `"tagStatus":"tagged",`+old)), "Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED."},
		{policy(rule(1, `"tagStatus":"tagged","tagPrefixList":[],`+old)), "Must specify tagPrefixList or tagPatternList when tagStatus=TAGGED."},
		{policy(rule(1, `"tagStatus":"any","tagPrefixList":["a"],`+old)), "tagPrefixList and tagPatternList can only be specified when tagStatus=TAGGED."},
		{policy(rule(1, `"tagStatus":"tagged","tagPrefixList":["a"],"tagPatternList":["b"],`+old)), "Cannot specify both tagPrefixList and tagPatternList."},
		{policy(rule(1, `"tagStatus":"tagged","tagPatternList":["test*1*2*3*4*5*6"],`+old)), "Tag pattern test*1*2*3*4*5*6 has more than 4 wildcards."},
		{policy(rule(1, `"tagStatus":"tagged","tagPatternList":["[a-z]"],`+old)), "Invalid tag pattern: [a-z]."},
		{policy(rule(1, `"tagStatus":"tagged","tagPrefixList":["a b"],`+old)), "Invalid tag prefix: a b."},
		{policy(rule(1, untagged), rule(2, untagged)), "Only one rule can select Untagged images per storage class"},
		{policy(rule(1, anyFive), rule(2, untagged)), "Rule for tagStatus=ANY must have the lowest priority per storage class"},
		{policy(rule(1, anyFive), rule(2, anyFive)), "Rule for tagStatus=ANY must have the lowest priority per storage class"},
		{policy(rule(1, anyFive), rule(1, untagged)), "Rules must have unique rulePriority values: 1 is given more than once."},
		{policy(rule(1, prefixed(1, "a", "b")), rule(2, prefixed(2, "b", "a"))), "Rules must have unique sets of tag prefixes or patterns per storage class"},
	} {
		_, err := Parse(c.text)
		if err == nil || strings.TrimSuffix(err.Error(), "\n") != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

// The images of the tests below are named by one letter, A the oldest.
func tagged(pushed float64, tags ...string) Image { return Image{Tags: tags, Pushed: ago(pushed)} }

// The rules of evaluation, one case each; those with two rules and the tags prod
// and beta are the examples of the documentation.
func TestEvaluate(t *testing.T) {
	prodBeta := []Image{tagged(10, "beta-1", "prod-1"), tagged(9, "beta-2", "prod-2"), tagged(8, "beta-3")}
	archived := func(pushed, at float64) Image {
		return Image{Archived: true, Pushed: ago(pushed), ArchiveAt: ago(at)}
	}
	for name, c := range map[string]struct {
		policy string
		images []Image
		want   string // letter of the image, the rule's priority and x for expired or a for archived
	}{
		"keeps the youngest": {policy(rule(1, prefixed(2, "v"))),
			[]Image{tagged(5, "v1"), tagged(4, "v2"), tagged(3, "v3"), tagged(2, "v4"), tagged(9, "other")}, "A1x B1x"},
		"no more than allowed":                  {policy(rule(1, anyFive)), []Image{tagged(1), tagged(2), tagged(3)}, ""},
		"older than a number of days":           {policy(rule(1, `"tagStatus":"any",`+old)), []Image{tagged(15), tagged(14.1), tagged(13.9)}, "A1x B1x"},
		"untagged only":                         {policy(rule(1, `"tagStatus":"untagged",`+old)), []Image{tagged(20, "a"), tagged(20)}, "B1x"},
		"a higher rule shields, docs example A": {policy(rule(1, prefixed(1, "prod")), rule(2, prefixed(1, "beta"))), prodBeta, "A1x"},
		"a higher rule marks, docs example B":   {policy(rule(1, prefixed(1, "beta")), rule(2, prefixed(1, "prod"))), prodBeta, "A1x B1x"},
		"what is shielded counts all the same": {policy(rule(1, prefixed(9, "prod")), rule(2, prefixed(1, "beta"))),
			[]Image{tagged(9, "beta-1"), tagged(8, "beta-2", "prod-2")}, "A2x"},
		"all prefixes must match": {policy(rule(1, prefixed(1, "alpha", "beta"))),
			[]Image{tagged(9, "alpha-1"), tagged(8, "beta-1"), tagged(7, "alpha-2", "beta-2"), tagged(6, "alpha-3", "beta-3")}, "C1x"},
		"all patterns must match": {policy(rule(1, `"tagStatus":"tagged","tagPatternList":["prod*","*-x"],`+old)),
			[]Image{tagged(20, "prod1"), tagged(20, "prod-x"), tagged(20, "prod1", "1-x")}, "B1x C1x"},
		"any comes last": {policy(rule(1, prefixed(1, "keep")), rule(5, `"tagStatus":"any",`+old)),
			[]Image{tagged(30, "keep-1"), tagged(20, "keep-2"), tagged(20, "x"), tagged(20)}, "A1x C5x D5x"},
		"a list keeps its images": {policy(rule(1, `"tagStatus":"any",`+old)),
			[]Image{{Digest: "list", Tags: []string{"v"}, Pushed: ago(1)}, {Digest: "one", Lists: []string{"list"}, Pushed: ago(20)}, {Digest: "two", Lists: []string{"gone"}, Pushed: ago(20)}}, "C1x"},
		"not pulled: archived": {policy(archive(1, `"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":14`)),
			[]Image{{Pushed: ago(90), Pulled: ago(1)}, {Pushed: ago(90), Pulled: ago(15)}, tagged(20), tagged(3)}, "B1a C1a"},
		"restored since its last pull": {policy(archive(1, `"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":14`)),
			[]Image{{Pushed: ago(90), Pulled: ago(50), ActiveAt: ago(2)}, {Pushed: ago(90), Pulled: ago(50), ActiveAt: ago(15)}}, "B1a"},
		"restored is as young as its return": {policy(rule(1, `"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1`)),
			[]Image{{Pushed: ago(90), ActiveAt: ago(1)}, tagged(2)}, "B1x"},
		"long in the archive": {policy(rule(1, `"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":90`)),
			[]Image{archived(400, 91), archived(400, 89), tagged(400)}, "A1x"},
		"a class of storage does not shield the other": {policy(
			archive(1, `"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":14`),
			rule(2, `"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":90`)),
			[]Image{archived(400, 91), tagged(20)}, "A2x B1a"},
		"what is archived is not counted": {policy(rule(1, `"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1`)),
			[]Image{archived(400, 91), tagged(20)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse(c.policy)
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.images {
				if c.images[i].Digest == "" {
					c.images[i].Digest = string(rune('A' + i))
				}
			}
			var got []string
			for _, m := range p.Evaluate(c.images, now) {
				letter := rune('A' + slices.IndexFunc(c.images, func(i Image) bool { return i.Digest == m.Image.Digest }))
				got = append(got, fmt.Sprintf("%c%d%s", letter, m.Priority, map[Action]string{Expire: "x", Archive: "a"}[m.Action]))
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

// Older images are acted upon before newer ones, whatever their rules.
func TestEvaluateOrder(t *testing.T) {
	p, err := Parse(policy(rule(1, prefixed(1, "a")), rule(2, prefixed(1, "b"))))
	if err != nil {
		t.Fatal(err)
	}
	images := []Image{tagged(1, "a1"), tagged(3, "a2"), tagged(2, "b1"), tagged(9, "b2")}
	var got []string
	for _, m := range p.Evaluate(images, now) {
		got = append(got, m.Image.Tags[0])
	}
	if s := strings.Join(got, " "); s != "b2 a2" {
		t.Errorf("got %s", s)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(policy(rule(1, anyFive)))
	f.Add(policy(archive(1, prefixed(1, "a")), rule(2, `"tagStatus":"untagged",`+old)))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if len(p.Rules) == 0 || len(p.Rules) > maxRules {
			t.Errorf("%d rules", len(p.Rules))
		}
		p.Evaluate([]Image{tagged(1, "a"), tagged(2)}, now)
	})
}

func BenchmarkEvaluate(b *testing.B) {
	p, err := Parse(policy(rule(1, prefixed(100, "v")), rule(2, `"tagStatus":"untagged",`+old), rule(3, anyFive)))
	if err != nil {
		b.Fatal(err)
	}
	images := make([]Image, 10_000)
	for i := range images {
		images[i] = Image{Digest: fmt.Sprint(i), Pushed: ago(float64(i) / 100)}
		if i%2 == 0 {
			images[i].Tags = []string{fmt.Sprint("v", i)}
		}
	}
	for b.Loop() {
		p.Evaluate(images, now)
	}
}
