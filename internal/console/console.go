// Package console serves the status page: where the cloud listens, what is built
// of each service, how its background loops fare, what the engine can do and what
// is switched off on this machine and why. It is static; everything it shows, it
// asks of GET /_skerry/status. The full console, when there is one, takes its
// place.
package console

import (
	"embed"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed page
var embedded embed.FS

// Root is the path under which the page is served.
const Root = "/_skerry/"

// Handler serves the page and its files at Root. The page needs nothing from
// elsewhere and may not load it: its content security policy says so.
func Handler() http.Handler {
	page, err := fs.Sub(embedded, "page")
	if err != nil {
		panic(err) // cannot be: the folder is embedded above
	}
	files := http.StripPrefix(strings.TrimSuffix(Root, "/"), http.FileServerFS(page))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the status page can only be read", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // another version may answer here tomorrow
		files.ServeHTTP(w, r)
	})
}
