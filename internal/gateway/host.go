package gateway

import (
	"net"
	"strings"
)

// baseDomains are the names below which the cloud's hosts live: its own, and
// AWS's, which the resolver inside of sandboxes leads here.
var baseDomains = []string{"localhost", "skerry.internal", "amazonaws.com", "api.aws"}

// hostName is what a Host header says.
type hostName struct {
	bucket  string // of S3's virtual-host style
	service string // label of a service's endpoint, such as "lambda" or "dynamodb"
	region  string
	local   bool // an address, or a name below a base domain
}

// parseHost reads a Host header: [bucket.]s3[.dualstack][.region].amazonaws.com,
// service.region.amazonaws.com, bucket.localhost and the like. Page: "Virtual hosting of general purpose
// buckets".
func (g *Gateway) parseHost(host string) hostName {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return hostName{local: true}
	}
	for _, base := range g.domains {
		if host == base {
			return hostName{local: true}
		}
		rest, ok := strings.CutSuffix(host, "."+base)
		if !ok {
			continue
		}
		n := hostName{local: true}
		n.read(strings.Split(rest, "."), g.isEndpoint)
		return n
	}
	return hostName{}
}

// read takes the labels in front of the base domain, from the last to the first:
// a region, "dualstack", a service; what is left is a bucket, which may itself
// hold dots.
func (n *hostName) read(labels []string, isService func(string) bool) {
	last := func() string {
		if len(labels) == 0 {
			return ""
		}
		return labels[len(labels)-1]
	}
	drop := func() { labels = labels[:len(labels)-1] }
	if isRegion(last()) {
		n.region = last()
		drop()
	}
	if l := last(); l == "dualstack" || l == "s3-accelerate" && len(labels) > 1 {
		drop()
	}
	switch l := last(); {
	case l == "":
	case l == "s3" || l == "s3-external-1" || l == "s3-accelerate":
		n.service = "s3"
		drop()
	case strings.HasPrefix(l, "s3-") && isRegion(l[3:]):
		n.service, n.region = "s3", l[3:]
		drop()
	case isService(l):
		n.service = l
		drop()
		return // what stands in front, such as data- names, is of no matter
	}
	n.bucket = strings.Join(labels, ".")
}

// isRegion tells whether a label has the form of a region: us-east-1.
func isRegion(s string) bool {
	p := strings.Split(s, "-")
	if len(p) < 3 || len(p[0]) != 2 || strings.ContainsAny(p[0], "0123456789") || len(p[len(p)-1]) != 1 {
		return false
	}
	c := p[len(p)-1][0]
	return c >= '0' && c <= '9'
}
