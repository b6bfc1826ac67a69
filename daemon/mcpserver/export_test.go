package mcpserver

// Instructions are what every model is told.
const Instructions = instructions

// InTools is inTools.
var InTools = inTools

// CallOf is a call of a tool that is right.
func CallOf(name string) string {
	for _, t := range tools {
		if t.name == name {
			return t.example
		}
	}
	return ""
}

// Names are the names of the tools, in the order of the page.
func Names() (names []string) {
	for _, t := range tools {
		names = append(names, t.name)
	}
	return names
}

// Check reports what is wrong with a call of a tool that is written as next is.
func Check(call string) error {
	for _, t := range tools {
		if args, ok := cut(call, t.name); ok {
			_, err := t.parse([]byte(args))
			return err
		}
	}
	return (&tool{}).bad("no tool: %s", call)
}

func cut(call, name string) (string, bool) {
	if len(call) > len(name) && call[:len(name)] == name && call[len(name)] == ' ' {
		return call[len(name)+1:], true
	}
	return "", false
}
