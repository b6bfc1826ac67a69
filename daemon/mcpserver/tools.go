package mcpserver

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// tool is what a model may call.
type tool struct {
	name, about string
	args        []arg
	example     string // a call that is right
	observes    bool   // an observer may call it, who speaks for nobody
	anybody     bool   // it needs no agent
	reads       bool   // it changes nothing
	run         func(*call, context.Context) error
}

// describe is the tool as a client is told of it.
func (t *tool) describe() *mcp.Tool {
	no := false
	return &mcp.Tool{
		Name: t.name, Description: t.about, InputSchema: schema(t.args),
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: t.reads, DestructiveHint: &no},
	}
}

const (
	maxWait     = 600 // seconds
	defaultWait = 45  // clients are said to give up on a call after 60
)

var (
	textArg = arg{name: "text", kind: aWord, about: "what to say", needed: true}
	keyArg  = arg{name: "key", kind: aWord, about: "names this call: the same again sends nothing twice"}
	waitArg = arg{name: "wait", kind: aNumber, about: "seconds to wait for the answer", most: maxWait}
	capsArg = arg{name: "capabilities", kind: aList, about: "like review"}
	limArg  = arg{name: "limit", kind: aNumber, most: 500}
	states  = []string{"available", "ringing", "in-call", "busy", "offline"}
)

// tools are all that there is: each costs every model that has them.
var tools = []tool{
	{
		name: "whoami", about: "Tell which agent you are. With name: become that agent; the same name again has the same mail.",
		args: []arg{
			{name: "name", kind: aWord, about: "letters, digits, _ and -"}, capsArg,
			{name: "description", kind: aWord, about: "who you are, in a sentence"},
		},
		example: `whoami {"name":"Atlas"}`, observes: true, anybody: true, run: (*call).whoami,
	},
	{
		name: "who", about: "List the agents here and at linked hosts.",
		args: []arg{
			{name: "status", kind: aWord, choices: states},
			{name: "host", kind: aWord, about: "only of this host"}, limArg,
		},
		example: `who {}`, observes: true, anybody: true, reads: true, run: (*call).who,
	},
	{
		name: "find", about: "Find agents by what they can do, the best first.",
		args: []arg{
			{name: "text", kind: aWord, about: "words in the card"}, capsArg,
			{name: "status", kind: aWord, choices: states}, limArg,
		},
		example: `find {"capabilities":["review"]}`, observes: true, anybody: true, reads: true, run: (*call).find,
	},
	{
		name: "call", about: "Ask agents to talk now. Who is away or busy can accept later.",
		args: []arg{
			{name: "to", kind: aList, about: "agents", needed: true},
			{name: "topic", kind: aWord}, {name: "text", kind: aWord, about: "first message"},
			{name: "mode", kind: aWord, choices: []string{"live", "async"}},
			{name: "turnLimit", kind: aNumber, about: "at most so many messages"}, waitArg, keyArg,
		},
		example: `call {"to":["Nova"],"topic":"Review auth.go","wait":45}`, run: (*call).place,
	},
	{
		name: "answer", about: "Answer a call: the only one, or ref.",
		args: []arg{
			{name: "answer", kind: aWord, choices: []string{"accept", "reject", "busy"}, about: "busy: not now", needed: true},
			{name: "ref", kind: aWord, about: "like r77b2"},
			{name: "text", kind: aWord, about: "first message, when you accept"},
			{name: "reason", kind: aWord, about: "when you do not"}, keyArg,
		},
		example: `answer {"answer":"accept","ref":"r77b2"}`, run: (*call).answer,
	},
	{
		name: "send", about: "Say something in a conversation: the current one, or the one named.",
		args: []arg{
			textArg, {name: "conversation", kind: aWord, about: "like c9f3a"},
			{name: "replyTo", kind: aWord, about: "message that this answers, like c9f3a.42"}, waitArg, keyArg,
		},
		example: `send {"text":"I agree.","conversation":"c9f3a"}`, run: (*call).send,
	},
	{
		name: "message", about: "Write to agents, who need not be there. With topic: in a new conversation.",
		args: []arg{
			{name: "to", kind: aList, about: "agents", needed: true}, textArg,
			{name: "topic", kind: aWord}, waitArg, keyArg,
		},
		example: `message {"to":["Nova"],"text":"Can you look at main.go?"}`, run: (*call).message,
	},
	{
		name: "inbox", about: "List what you have not seen; changes nothing.",
		args: []arg{limArg}, example: `inbox {}`, reads: true, run: (*call).inbox,
	},
	{
		name: "read", about: "Show messages and calls and mark them seen: all unseen ones, or refs.",
		args: []arg{
			{name: "refs", kind: aList, about: "like c9f3a, c9f3a.42 or r77b2"}, limArg,
			{name: "keepUnread", kind: aFlag},
		},
		example: `read {"refs":["c9f3a.42"]}`, run: (*call).read,
	},
	{
		name: "wait", about: "Wait until something comes, show it and mark it seen. An empty end is no error: wait again.",
		args: []arg{
			{name: "for", kind: aWord, choices: []string{"any", "message", "call", "answer", "reply"}, about: "answer: to a call of yours; reply: to the message ref"},
			{name: "ref", kind: aWord, about: "of the call or message"},
			{name: "conversation", kind: aWord, about: "only in this one"},
			{name: "from", kind: aWord, about: "only from this agent"},
			{name: "timeout", kind: aNumber, about: "seconds, default 45", most: maxWait},
		},
		example: `wait {"for":"reply","ref":"c9f3a.42"}`, run: (*call).wait,
	},
	{
		name: "log", about: "Show the end of a conversation, without ref list yours, or with search find lines: in ref, or everywhere.",
		args: []arg{
			{name: "search", kind: aWord, about: "words, \"a phrase\", prefix*, -not, from:Nova, since:2d"},
			{name: "ref", kind: aWord, about: "like c9f3a"}, {name: "last", kind: aNumber, about: "so many lines, default 20", most: 500},
			{name: "before", kind: aNumber, about: "a line's number"},
		},
		example: `log {"ref":"c9f3a"}`, observes: true, reads: true, run: (*call).log,
	},
	{
		name: "leave", about: "Leave a conversation, or withdraw a call of yours.",
		args: []arg{
			{name: "ref", kind: aWord, about: "like c9f3a or r77b2; default the current conversation"},
			{name: "text", kind: aWord, about: "last words"},
		},
		example: `leave {"ref":"c9f3a"}`, run: (*call).leave,
	},
}
