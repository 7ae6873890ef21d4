package gateway

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// isForm tells whether a request is an upload by a browser's form, which S3 takes
// at a bucket's address. Page: "POST Object".
func (d destination) isForm(r *http.Request) bool {
	return d.service.api.NoErrorWrapping && auth.IsForm(r)
}

// serveForm is serve for a form. No model describes it: once authenticated, it
// goes on as the PutObject that it stands for.
func (g *Gateway) serveForm(a *answer, r *http.Request, to destination) error {
	form, err := auth.ReadForm(r)
	if err != nil {
		return err
	}
	bucket := bucketOf(to)
	v, err := g.verifier.VerifyForm(r, form, bucket)
	if err != nil {
		return err
	}
	caller, err := g.admit(r, to, a.id, v)
	a.scope = caller.scope
	if err != nil {
		return err
	}
	if to.request, err = putOf(form, bucket, to.request); err != nil {
		return err
	}
	req, err := g.decode(to, caller)
	if err != nil {
		return err
	}
	permit, err := g.authorise(r.Context(), caller.scope, req)
	if err != nil {
		return err
	}
	out, err := g.handle(r.Context(), permit)
	if err != nil {
		return err
	}
	return a.encodeForm(req.call, out, form, bucket)
}

// putHeaders are the form fields that are headers of PutObject.
var putHeaders = []string{"cache-control", "content-type", "content-disposition", "content-encoding", "content-language", "expires", "content-md5"}

// notHeaders are the fields that begin like headers and are none.
var notHeaders = []string{"x-amz-signature", "x-amz-credential", "x-amz-algorithm", "x-amz-date", "x-amz-security-token"}

// putOf makes the request of the PutObject that a form stands for.
func putOf(f *auth.Form, bucket string, r *wire.Request) (*wire.Request, error) {
	put := &wire.Request{Method: http.MethodPut, Header: http.Header{}, Host: r.Host, Length: -1}
	put.Path = "/" + url.PathEscape(bucket) + "/" + (&url.URL{Path: f.Field("key")}).EscapedPath()
	for _, name := range f.Names() {
		switch {
		case strings.HasPrefix(name, "x-amz-copy-source"): // would make it another operation
			return nil, awserr.New(http.StatusBadRequest, "InvalidArgument", "A form can't copy an object.").
				With("ArgumentName", name).With("ArgumentValue", f.Field(name))
		case slices.Contains(putHeaders, name), strings.HasPrefix(name, "x-amz-") && !slices.Contains(notHeaders, name):
			put.Header.Set(name, f.Field(name))
		case name == "acl":
			put.Header.Set("X-Amz-Acl", f.Field(name))
		case name == "tagging":
			tags, err := formTags(f.Field(name))
			if err != nil {
				return nil, err
			}
			put.Header.Set("X-Amz-Tagging", tags)
		}
	}
	return put, nil
}

// formTags turns the XML of a form's tags into the query form that PutObject
// takes.
func formTags(text string) (string, error) {
	var tagging struct {
		Tags []struct{ Key, Value string } `xml:"TagSet>Tag"`
	}
	if err := xml.Unmarshal([]byte(text), &tagging); err != nil {
		return "", awserr.New(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	}
	tags := url.Values{}
	for _, t := range tagging.Tags {
		tags.Add(t.Key, t.Value)
	}
	return tags.Encode(), nil
}

// headed collects the headers of an answer and drops the rest.
type headed struct{ header http.Header }

func (h *headed) Header() http.Header         { return h.header }
func (h *headed) Write(b []byte) (int, error) { return len(b), nil }
func (h *headed) WriteHeader(int)             {}

// encodeForm answers a form: with a redirect, or with the status that it asks
// for.
func (a *answer) encodeForm(call *wire.Call, out any, f *auth.Form, bucket string) error {
	put := &headed{http.Header{}}
	if err := call.Encode(put, out, a.id); err != nil {
		return err
	}
	h, key := a.Header(), f.Field("key")
	etag := ""
	for name, values := range put.header {
		if strings.EqualFold(name, "etag") {
			etag = values[0]
		}
		if name != "Content-Type" && name != "Content-Length" {
			h[name] = values
		}
	}
	target := f.Field("success_action_redirect")
	if target == "" {
		target = f.Field("redirect")
	}
	if u, err := url.Parse(target); err == nil && target != "" && (u.Scheme == "http" || u.Scheme == "https") {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += "bucket=" + url.QueryEscape(bucket) + "&key=" + url.QueryEscape(key) + "&etag=" + url.QueryEscape(etag)
		h.Set("Location", u.String())
		a.WriteHeader(http.StatusSeeOther)
		return nil
	}
	scheme := "http://"
	if a.r.TLS != nil {
		scheme = "https://"
	}
	location := scheme + a.r.Host + strings.TrimSuffix(a.r.URL.EscapedPath(), "/") + "/" + (&url.URL{Path: key}).EscapedPath()
	h.Set("Location", location)
	status, _ := strconv.Atoi(f.Field("success_action_status")) // what is no number is as good as none
	switch status {
	case http.StatusOK:
		a.WriteHeader(status)
		return nil
	case http.StatusCreated:
		return a.writeCreated(location, bucket, key, etag)
	}
	a.WriteHeader(http.StatusNoContent)
	return nil
}

// writeCreated answers with the document that comes with status 201.
func (a *answer) writeCreated(location, bucket, key, etag string) error {
	doc, err := xml.Marshal(struct {
		XMLName                     xml.Name `xml:"PostResponse"`
		Location, Bucket, Key, ETag string
	}{Location: location, Bucket: bucket, Key: key, ETag: etag})
	if err != nil {
		return err
	}
	doc = append([]byte(xml.Header), doc...)
	a.Header().Set("Content-Type", "application/xml")
	a.Header().Set("Content-Length", strconv.Itoa(len(doc)))
	a.WriteHeader(http.StatusCreated)
	_, err = a.Write(doc)
	return err
}
