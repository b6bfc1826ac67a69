package httpd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	maxBody     = envelope.MaxLine
	bodyTimeout = 30 * time.Second
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

// newDoor makes what routes are added to: huma reads and checks their parameters, and
// writes the description of the whole.
func newDoor(mux *http.ServeMux) huma.API {
	registry := huma.NewMapRegistry(schemas, huma.DefaultSchemaNamer)
	for shown, described := range described {
		registry.RegisterTypeAlias(shown, described)
	}
	door := humago.New(mux, huma.Config{
		OpenAPI:       description(registry),
		Formats:       map[string]huma.Format{jsonType: {Marshal: writeJSON, Unmarshal: json.Unmarshal}, "json": {Marshal: writeJSON}},
		DefaultFormat: jsonType,
		Transformers:  []huma.Transformer{problemOfHuma},
	})
	return door
}

// route is what is said of a route besides its types.
type route struct {
	at      string // "GET /v1/agents/{name}"
	need    right
	group   string
	id      string // of the operation
	summary string
	body    any // of what type a JSON body is that may be absent; nil for none
}

// withBody is of routes that take JSON.
type withBody struct {
	RawBody []byte `contentType:"application/json"`
}

// none is what a route takes that needs nothing, and what it answers that has nothing to
// say.
type none struct{}

// serve adds a route. Its handler returns what is sent as JSON, or an error that is sent
// as a problem.
func serve[In, Out any](s *Server, door huma.API, about route, handle func(context.Context, caller, In) (Out, error)) {
	method, path, _ := strings.Cut(about.at, " ")
	registry := door.OpenAPI().Components.Schemas
	op := huma.Operation{
		Method: method, Path: path, OperationID: about.id, Summary: about.summary, Tags: []string{about.group},
		Parameters: slices.Clone(headers[about.need]), Security: security(about.need),
		Responses: responses(registry, reflect.TypeFor[Out]()), DefaultStatus: http.StatusOK,
		Middlewares:  huma.Middlewares{s.guard(about.need, parameters(reflect.TypeFor[In]()))},
		MaxBodyBytes: maxBody, BodyReadTimeout: bodyTimeout, SkipValidateBody: true,
	}
	if about.body != nil {
		op.RequestBody = &huma.RequestBody{Content: make(map[string]*huma.MediaType)}
	}
	huma.Register(door, op, func(ctx context.Context, in *In) (*huma.StreamResponse, error) {
		who, _ := ctx.Value(callerKey{}).(caller)
		out, err := handle(ctx, who, *in)
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			if _, silent := any(out).(none); silent && err == nil {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			s.answer(w, r, out, err)
		}}, nil
	})
	if about.body != nil { // which huma takes for bytes that have to be there
		op.RequestBody.Required = false
		op.RequestBody.Content[jsonType].Schema = registry.Schema(reflect.TypeOf(about.body), true, "")
	}
}

// answer sends what a handler returns.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, out any, err error) {
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if list, ok := out.(interface{ NextPage() string }); ok && list.NextPage() != "" {
		next := *r.URL
		q := next.Query()
		q.Set("cursor", list.NextPage())
		next.RawQuery = q.Encode()
		w.Header().Set("Link", "<"+next.RequestURI()+`>; rel="next"`) // RFC 8288
	}
	s.reply(w, http.StatusOK, jsonType, out)
}

type callerKey struct{}

// guard lets requests in with the parameters that the handler knows, and tells it on whose
// behalf they come.
func (s *Server) guard(need right, known []string) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		who, err := s.admit(r, need)
		if err == nil {
			err = checkQuery(r, known...)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next(huma.WithValue(ctx, callerKey{}, who))
	}
}

// decode reads a body of JSON strictly. An empty one is the zero value.
func decode[T any](body []byte) (value T, err error) {
	if len(body) == 0 {
		return value, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err = d.Decode(&value); err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more behind the JSON value")
		}
	}
	if err != nil {
		return value, api.Errorf(api.BadRequest, "body: %w", err)
	}
	return value, nil
}

// writeJSON is for what huma answers itself. A client that is gone needs no answer.
func writeJSON(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, _ = w.Write(append(data, '\n'))
	}
	return err
}

// problemOfHuma makes a problem like all others of what huma has found wrong with a
// request.
func problemOfHuma(_ huma.Context, _ string, v any) (any, error) {
	model, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code := api.BadRequest
	switch model.Status {
	case http.StatusRequestEntityTooLarge:
		code = api.TooLarge
	case http.StatusRequestTimeout:
		code = api.TooSlow
	}
	var found []string
	for _, e := range model.Errors {
		_, name, _ := strings.Cut(e.Location, ".")
		found = append(found, fmt.Sprintf("%s: %s, got %.100q", name, e.Message, fmt.Sprint(e.Value)))
	}
	p := api.Errorf(code, "%s", cmp.Or(strings.Join(found, "; "), model.Detail)).Problem()
	p.Status = model.Status
	return p, nil
}
