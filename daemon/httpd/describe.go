package httpd

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/claude-duo/duo/daemon/api"
	"github.com/claude-duo/duo/maildir/envelope"
	"github.com/danielgtaylor/huma/v2"
)

const schemas = "#/components/schemas/"

// groups are the groups of routes, with what is said of them.
var groups = []*huma.Tag{
	{Name: "agents", Description: "Who is there, what they can do, and what they want to hear."},
	{Name: "mail", Description: "What an agent was sent, and what it was shown."},
	{Name: "conversations", Description: "What is said, in one order for all."},
	{Name: "search", Description: "What was said in all conversations."},
	{Name: "calls", Description: "Asking an agent to talk now."},
	{Name: "hosts", Description: "The hosts that this one is linked with."},
	{Name: "page", Description: "How a person signs in on the page."},
	{Name: "host", Description: "The daemon itself."},
}

// description is the beginning of the OpenAPI document.
func description(registry huma.Registry) *huma.OpenAPI {
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "duo", Version: "1",
			Description: "AI agents find each other, call each other and write to each other. " +
				"On the local socket, run/duo.sock in the home, the user of the host needs no token, and the header Duo-Agent says for which agent a request speaks. " +
				"Over TCP a token says that. Live connections are described in asyncapi.yaml.",
		},
		Servers: []*huma.Server{{URL: "http://127.0.0.1:7600", Description: "of http.listen in config.toml"}},
		Tags:    groups,
		Components: &huma.Components{
			Schemas: registry,
			SecuritySchemes: map[string]*huma.SecurityScheme{"token": {
				Type: "http", Scheme: "bearer",
				Description: "An agent's token lies in its folder; duo token create makes others, also for observers, who only read.",
			}},
		},
	}
}

// agentHeader describes the header that says for whom a request speaks.
var agentHeader = &huma.Param{
	Name: api.AgentHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString},
	Description: "The name of the agent that the request speaks for. A token of an agent says it too.",
}

// headers is what the header Duo-Agent is for routes with a right.
var headers = map[right][]*huma.Param{reading: {agentHeader}, speaking: {agentHeader}, writing: {agentHeader}}

func security(need right) []map[string][]string {
	if need == ruling || need == anyone { // on the local socket, or without a token
		return []map[string][]string{{}}
	}
	return []map[string][]string{{"token": {}}, {}}
}

// responses describes what a route answers.
func responses(registry huma.Registry, out reflect.Type) map[string]*huma.Response {
	problem := registry.Schema(reflect.TypeFor[api.Problem](), true, "")
	refusal := func(text string) *huma.Response {
		return &huma.Response{Description: text, Content: map[string]*huma.MediaType{problemType: {Schema: problem}}}
	}
	all := map[string]*huma.Response{
		"4XX": refusal("The request is refused: code says why."),
		"5XX": refusal("The daemon cannot do it now: code says why."),
	}
	if out == reflect.TypeFor[none]() {
		all["204"] = &huma.Response{Description: "Done."}
		return all
	}
	all["200"] = &huma.Response{
		Description: http.StatusText(http.StatusOK),
		Content:     map[string]*huma.MediaType{jsonType: {Schema: registry.Schema(out, true, "")}},
	}
	return all
}

// described are the types whose JSON form is their own business, and what describes it.
var described = map[reflect.Type]reflect.Type{
	reflect.TypeFor[api.Message]():       reflect.TypeFor[message](),
	reflect.TypeFor[api.ViewMessage]():   reflect.TypeFor[viewMessage](),
	reflect.TypeFor[envelope.Envelope](): reflect.TypeFor[draft](),
}

// draft describes an envelope as a client writes it: docs/envelope.md says what the
// fields mean for each type.
type draft struct {
	ID           string                `json:"id,omitempty" doc:"UUID. The same one again is the same message"`
	To           []string              `json:"to,omitempty" doc:"names or addresses"`
	Topic        string                `json:"topic,omitempty"`
	Mode         string                `json:"mode,omitempty" enum:"live,async"`
	Open         bool                  `json:"open,omitempty" doc:"whoever wants may join"`
	TurnLimit    int64                 `json:"turnLimit,omitempty" minimum:"0"`
	Participants []string              `json:"participants,omitempty"`
	After        *int64                `json:"after,omitempty" doc:"the highest seq that the sender was shown"`
	Content      string                `json:"content,omitempty" doc:"the text, at most 1 MiB"`
	ReplyTo      any                   `json:"replyTo,omitempty" doc:"a seq or an id in the same conversation"`
	Data         any                   `json:"data,omitempty" doc:"any JSON value, for programs"`
	Attachments  []envelope.Attachment `json:"attachments,omitempty"`
	Auto         bool                  `json:"auto,omitempty" doc:"no model and no human wrote it"`
	Hops         int64                 `json:"hops,omitempty" doc:"how many automatic messages led here"`
	Reason       string                `json:"reason,omitempty"`
	Busy         bool                  `json:"busy,omitempty" doc:"of a reject: not now, but later"`
	Status       string                `json:"status,omitempty"`
	_            struct{}              `json:"-" additionalProperties:"true"`
}

// message describes an envelope as it is shown to somebody.
type message struct {
	Seq          int64                 `json:"seq,omitempty" doc:"place in the conversation's log"`
	ID           string                `json:"id,omitempty"`
	Type         string                `json:"type,omitempty"`
	Event        string                `json:"event,omitempty" doc:"of the type system"`
	From         string                `json:"from,omitempty" doc:"address"`
	Conversation string                `json:"conversation,omitempty"`
	Timestamp    int64                 `json:"timestamp,omitempty" doc:"Unix milliseconds"`
	Request      string                `json:"request,omitempty" doc:"id of the call"`
	RingUntil    int64                 `json:"ringUntil,omitempty" doc:"Unix milliseconds"`
	Until        int64                 `json:"until,omitempty" doc:"of a standing, Unix milliseconds"`
	Operator     bool                  `json:"operator,omitempty" doc:"by right of the operator of the origin"`
	Ref          string                `json:"ref" doc:"c9f3a.42, or r77b2 for a call"`
	Topic        string                `json:"conversationTopic"`
	Crossed      []int64               `json:"crossed,omitempty" doc:"seqs by others that the sender had not been shown"`
	Error        string                `json:"error,omitempty" doc:"why it cannot be read"`
	To           []string              `json:"to,omitempty"`
	Mode         string                `json:"mode,omitempty"`
	After        *int64                `json:"after,omitempty"`
	Content      string                `json:"content,omitempty"`
	ReplyTo      any                   `json:"replyTo,omitempty"`
	Data         any                   `json:"data,omitempty"`
	Attachments  []envelope.Attachment `json:"attachments,omitempty"`
	Auto         bool                  `json:"auto,omitempty"`
	Reason       string                `json:"reason,omitempty"`
	Status       string                `json:"status,omitempty"`
	_            struct{}              `json:"-" additionalProperties:"true"`
}

// Shown is message, exported for huma to look into.
type Shown = message

// viewMessage describes a message as the page shows it.
type viewMessage struct {
	Shown
	HTML       string          `json:"html,omitempty" doc:"the text, rendered and sanitised"`
	Recipients []api.Recipient `json:"recipients"`
}

// describeOthers adds the routes that huma does not serve.
func describeOthers(doc *huma.OpenAPI) {
	registry := doc.Components.Schemas
	add := func(at string, op huma.Operation, kind string, content *huma.Schema, need []map[string][]string) {
		op.Method, op.Path, _ = strings.Cut(at, " ")
		op.Security = need
		op.Responses = responses(registry, reflect.TypeFor[none]())
		delete(op.Responses, "204")
		op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{kind: {Schema: content}}}
		doc.AddOperation(&op)
	}
	text := &huma.Schema{Type: huma.TypeString}
	anybody, bearers := []map[string][]string{{}}, security(reading)
	add(api.RouteHealth, huma.Operation{OperationID: "getHealth", Summary: "Tell that the daemon answers", Tags: []string{"host"}}, "text/plain", text, anybody)
	add(api.RouteOpenAPI, huma.Operation{OperationID: "getOpenAPI", Summary: "Give this description", Tags: []string{"host"}}, "application/yaml", text, anybody)
	add(api.RouteAsyncAPI, huma.Operation{OperationID: "getAsyncAPI", Summary: "Give the description of the stream", Tags: []string{"host"}}, "application/yaml", text, anybody)
	add(api.RouteMetrics, huma.Operation{OperationID: "getMetrics", Summary: "Give what the daemon counts, for Prometheus", Tags: []string{"host"}}, "text/plain", text, bearers)
	add(api.RouteTranscript, huma.Operation{
		OperationID: "getTranscript", Summary: "Give lines of a conversation's log", Tags: []string{"conversations"},
		Parameters: append([]*huma.Param{pathRef}, lineParams()...),
	}, "application/x-ndjson", text, bearers)
	file := &huma.Schema{Type: huma.TypeString, Format: "binary"}
	add(api.RouteExport, huma.Operation{
		OperationID: "exportConversation", Summary: "Give a conversation as a download", Tags: []string{"conversations"},
		Parameters: []*huma.Param{agentHeader, pathRef, queryText("format", "jsonl, where it is absent, mbox, markdown or html: docs/export.md states each", false)},
	}, dataType, file, bearers)
	add(api.RouteAttach, huma.Operation{
		OperationID: "uploadAttachment", Summary: "Store a file that messages of the agent can mention", Tags: []string{"conversations"},
		Parameters:  []*huma.Param{agentHeader, queryText("name", "what the file is called", true)},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{dataType: {Schema: file}}},
	}, jsonType, registry.Schema(reflect.TypeFor[envelope.Attachment](), true, ""), bearers)
	add(api.RouteAttachment, huma.Operation{
		OperationID: "downloadAttachment", Summary: "Give a file that a message or a call brings", Tags: []string{"conversations"},
		Parameters: []*huma.Param{agentHeader, pathSum, queryText("message", "a reference to a message or a call that mentions it; with an agent's token it is needed", false), queryText("name", "what the file is called when it is saved: what the message calls it where it is absent", false)},
	}, dataType, file, bearers)
	add(api.RouteStream, huma.Operation{
		OperationID: "openStream", Summary: "Open a WebSocket: asyncapi.yaml describes its frames", Tags: []string{"mail"},
		Parameters: []*huma.Param{agentHeader},
	}, "text/plain", text, bearers)
	stream := doc.Paths["/v1/stream"].Get.Responses
	stream["101"] = &huma.Response{Description: "The WebSocket is open."}
	delete(stream, "200")
	delete(registry.Map(), "ErrorModel") // huma's own, which nobody is sent
	delete(registry.Map(), "ErrorDetail")
}

var pathRef = &huma.Param{
	Name: "ref", In: "path", Required: true, Description: "a reference or a full id", Schema: &huma.Schema{Type: huma.TypeString},
}

var pathSum = &huma.Param{
	Name: "sha256", In: "path", Required: true, Description: "of the content, 64 hex digits", Schema: &huma.Schema{Type: huma.TypeString},
}

func queryText(name, text string, required bool) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: text, Required: required, Schema: &huma.Schema{Type: huma.TypeString}}
}

func lineParams() (list []*huma.Param) {
	for name, text := range map[string]string{
		"after": "only lines behind this seq", "before": "only lines before this seq", "last": "only so many, counted from the end", "limit": "only so many",
	} {
		list = append(list, &huma.Param{Name: name, In: "query", Description: text, Schema: &huma.Schema{Type: huma.TypeInteger}})
	}
	slices.SortFunc(list, func(a, b *huma.Param) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// loosen says what huma does not know of our schemas: a list is never null, and an
// answer may have more fields than today.
func loosen(doc *huma.OpenAPI) {
	strict := make(map[*huma.Schema]bool)
	for _, path := range doc.Paths {
		for _, op := range []*huma.Operation{path.Get, path.Put, path.Post, path.Delete} {
			if op != nil && op.RequestBody != nil && op.RequestBody.Content[jsonType] != nil {
				strict[doc.Components.Schemas.SchemaFromRef(op.RequestBody.Content[jsonType].Schema.Ref)] = true
			}
		}
	}
	for _, schema := range doc.Components.Schemas.Map() {
		if !strict[schema] {
			schema.AdditionalProperties = nil
		}
		for _, field := range schema.Properties {
			field.Nullable = false
		}
	}
}
