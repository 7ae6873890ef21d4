package cloud

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"

	"skerry/internal/engine"
)

// imagesPath is where `skerry image` finds the images.
const imagesPath = "/_skerry/images"

// ImageAuth is the header with the credentials for a registry: an engine.Auth in
// JSON in base64.
const ImageAuth = "X-Skerry-Registry-Auth"

// ImageLine is a line of the answer to what takes long: progress, and at the end
// the images or an error.
type ImageLine struct {
	Progress *engine.Progress `json:"progress,omitempty"`
	Images   []engine.Image   `json:"images,omitempty"`
	Digest   string           `json:"digest,omitempty"` // of what was pushed
	Removed  *engine.Removed  `json:"removed,omitempty"`
	Error    string           `json:"error,omitempty"`
}

// serveImages serves the engine's images to the one whose machine it is.
func (c *Cloud) serveImages(w http.ResponseWriter, r *http.Request) {
	if !c.local(w, r, "an image") {
		return
	}
	ctx, q, all := r.Context(), r.URL.Query(), c.engine.Images()
	name := q.Get("name")
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, imagesPath) {
	case "GET ":
		list, err := all.List(ctx)
		answerImages(w, ImageLine{Images: list}, err)
	case "DELETE ":
		gone, err := all.Remove(ctx, name, q.Get("force") == "true")
		answerImages(w, ImageLine{Removed: &gone}, err)
	case "POST /tag":
		answerImages(w, ImageLine{}, all.Tag(ctx, name, q.Get("as")))
	case "GET /save":
		w.Header().Set("Content-Type", "application/x-tar")
		out := &started{ResponseWriter: w}
		if err := all.Save(ctx, q["name"], out); err != nil {
			if out.begun {
				panic(http.ErrAbortHandler) // so that nobody takes a half for the whole
			}
			answerImages(w, ImageLine{}, err)
		}
	case "POST /load":
		s := newImageStream(w)
		list, err := all.Load(ctx, r.Body, s.progress)
		s.end(ImageLine{Images: list}, err)
	case "POST /pull":
		auth, err := imageAuth(r)
		if err != nil {
			answerImages(w, ImageLine{}, err)
			return
		}
		s := newImageStream(w)
		o := engine.PullOptions{Auth: auth, Progress: s.progress}
		if p := strings.Split(q.Get("platform"), "/"); p[0] != "" {
			p = append(p, "", "")
			o.Platform = engine.Platform{OS: p[0], Architecture: p[1], Variant: p[2]}
		}
		i, err := all.Pull(ctx, name, o)
		s.end(ImageLine{Images: []engine.Image{i}}, err)
	case "POST /push":
		auth, err := imageAuth(r)
		if err != nil {
			answerImages(w, ImageLine{}, err)
			return
		}
		s := newImageStream(w)
		digest, err := all.Push(ctx, name, engine.PushOptions{Auth: auth, Progress: s.progress})
		s.end(ImageLine{Digest: digest}, err)
	default:
		writeJSON(w, http.StatusNotFound, ImageLine{Error: "there is no such page"})
	}
}

// imageAuth reads the credentials of a request.
func imageAuth(r *http.Request) (a engine.Auth, err error) {
	text := r.Header.Get(ImageAuth)
	if text == "" {
		return a, nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		return a, errors.New("the header " + ImageAuth + " is no engine.Auth in base64") // and not what it holds
	}
	return a, nil
}

// answerImages answers in one go.
func answerImages(w http.ResponseWriter, line ImageLine, err error) {
	status := http.StatusOK
	if err != nil {
		line, status = ImageLine{Error: err.Error()}, http.StatusInternalServerError
		for is, code := range map[error]int{
			engine.ErrNotFound: http.StatusNotFound, engine.ErrState: http.StatusConflict, engine.ErrInvalid: http.StatusBadRequest,
			engine.ErrUnsupported: http.StatusNotImplemented,
		} {
			if errors.Is(err, is) {
				status = code
			}
		}
	}
	writeJSON(w, status, line)
}

// imageStream answers line by line, as things go on. An error comes as the last
// line: the status has been sent by then.
type imageStream struct {
	mu sync.Mutex
	w  http.ResponseWriter
}

func newImageStream(w http.ResponseWriter) *imageStream {
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1: a load answers while it reads
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &imageStream{w: w}
}

func (s *imageStream) line(l ImageLine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if json.NewEncoder(s.w).Encode(l) == nil { // else the client is gone, and its context tells
		_ = http.NewResponseController(s.w).Flush()
	}
}

func (s *imageStream) progress(p engine.Progress) { s.line(ImageLine{Progress: &p}) }

func (s *imageStream) end(l ImageLine, err error) {
	if err != nil {
		l = ImageLine{Error: err.Error()}
	}
	s.line(l)
}

// started notes whether an answer has begun.
type started struct {
	http.ResponseWriter
	begun bool
}

// Write implements io.Writer.
func (s *started) Write(p []byte) (int, error) {
	s.begun = true
	return s.ResponseWriter.Write(p)
}
