package scan

import (
	"math"
	"strings"
)

// baseScore computes the base score of a CVSS 3 vector
// (https://www.first.org/cvss/v3.1/specification-document, section 7.1); false for
// other vectors.
func baseScore(vector string) (float64, bool) {
	if !strings.HasPrefix(vector, "CVSS:3.") {
		return 0, false
	}
	m := map[string]string{}
	for _, part := range strings.Split(vector, "/")[1:] {
		k, v, _ := strings.Cut(part, ":")
		m[k] = v
	}
	changed := m["S"] == "C"
	weights := map[string]map[string]float64{
		"AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
		"AC": {"L": 0.77, "H": 0.44},
		"PR": {"N": 0.85, "L": 0.62, "H": 0.27},
		"UI": {"N": 0.85, "R": 0.62},
		"C":  {"H": 0.56, "L": 0.22, "N": 0},
		"I":  {"H": 0.56, "L": 0.22, "N": 0},
		"A":  {"H": 0.56, "L": 0.22, "N": 0},
	}
	if changed {
		weights["PR"]["L"], weights["PR"]["H"] = 0.68, 0.5
	}
	w := map[string]float64{}
	for metric, values := range weights {
		v, ok := values[m[metric]]
		if !ok {
			return 0, false
		}
		w[metric] = v
	}
	iss := 1 - (1-w["C"])*(1-w["I"])*(1-w["A"])
	impact := 6.42 * iss
	if changed {
		impact = 7.52*(iss-0.029) - 3.25*math.Pow(iss-0.02, 15)
	}
	if impact <= 0 {
		return 0, true
	}
	score := impact + 8.22*w["AV"]*w["AC"]*w["PR"]*w["UI"]
	if changed {
		score *= 1.08
	}
	// Rounded up to one decimal, as the specification says to: free of the faults of
	// binary fractions.
	whole := int(math.Round(min(score, 10) * 100000))
	if whole%10000 == 0 {
		return float64(whole) / 100000, true
	}
	return float64(whole/10000+1) / 10, true
}
