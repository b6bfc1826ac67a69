package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// modelClient is a folder with programs that speak the Model Context Protocol and are not
// ours, of which this one is there.
func modelClient(t *testing.T, file string) (dir string) {
	t.Helper()
	dir = os.Getenv("DUO_CLIENTS_DIR")
	if cache, err := os.UserCacheDir(); err == nil && dir == "" {
		dir = filepath.Join(cache, "duo-clients")
	}
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "node_modules", file))
	}
	switch {
	case err == nil:
	case os.Getenv("DUO_CLIENTS") == "must":
		t.Fatalf("%s is not installed in %s: %v", file, dir, err)
	default:
		t.Skipf("%s is not installed in %s", file, dir)
	}
	return dir
}

// TestInspector: the inspector of the protocol's makers lists the tools and calls them.
func TestInspector(t *testing.T) {
	inspector := filepath.Join(modelClient(t, ".bin/mcp-inspector"), "node_modules", ".bin", "mcp-inspector")
	env := modelHome(t)
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"--method", "tools/list"}, `"name": "whoami"`},
		{[]string{"--method", "tools/call", "--tool-name", "whoami", "--tool-arg", "name=Atlas"}, "registered Atlas@"},
		{[]string{"--method", "tools/call", "--tool-name", "whoami", "--tool-arg", "name=Nova"}, "registered Nova@"},
		{[]string{"--method", "tools/call", "--tool-name", "message", "--tool-arg", "text=hi"}, "argument to is missing"},
		{[]string{"--method", "resources/templates/list"}, "duo://conversations/{ref}"},
	} {
		cmd := exec.Command(inspector, append([]string{"--cli", "duo", "mcp"}, step.args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), step.want) {
			t.Errorf("%q: got %v\n%s\nwant %q", step.args, err, out, step.want)
		}
	}
}

// otherSDK is a program of the SDK for TypeScript: two models talk.
const otherSDK = `
const {Client} = require("@modelcontextprotocol/sdk/client/index.js");
const {StdioClientTransport} = require("@modelcontextprotocol/sdk/client/stdio.js");
async function open() {
  const client = new Client({name: "test", version: "1"});
  await client.connect(new StdioClientTransport({command: "duo", args: ["mcp"], env: process.env}));
  return client;
}
async function use(client, name, args, want, onprogress) {
  const result = await client.callTool({name, arguments: args}, undefined, onprogress && {onprogress, resetTimeoutOnProgress: true});
  const text = result.content[0].text;
  if (!text.includes(want)) throw new Error(name + " " + JSON.stringify(args) + ": got\n" + text + "\nwant " + want);
  return result;
}
(async () => {
  const atlas = await open(), nova = await open();
  await use(atlas, "whoami", {name: "Atlas"}, "you are Atlas");
  await use(nova, "whoami", {name: "Nova"}, "you are Nova");
  const {tools} = await atlas.listTools();
  if (tools.length !== 12) throw new Error("got " + tools.length + " tools");
  let steps = 0;
  const waited = use(nova, "wait", {timeout: 120}, "| Look at line 40.", () => steps++);
  for (const end = Date.now() + 60000; steps === 0 && Date.now() < end;) await new Promise(next => setTimeout(next, 50));
  if (steps === 0) throw new Error("no progress of the wait was told");
  const sent = await use(atlas, "message", {to: ["Nova"], text: "Look at line 40.", topic: "Review"}, "sent c");
  await waited;
  const uri = "duo://conversations/" + sent.structuredContent.conversation.ref;
  const page = await nova.readResource({uri});
  if (!page.contents[0].text.includes("| Look at line 40.")) throw new Error(JSON.stringify(page));
  const wrong = await use(atlas, "send", {txt: "x"}, "did you mean: text");
  if (!wrong.isError) throw new Error("no error: " + JSON.stringify(wrong));
  await atlas.close();
  await nova.close();
  console.log("done");
})().catch(err => { console.error(err); process.exit(1); });
`

// TestOtherSDK: an SDK in another language drives duo mcp.
func TestOtherSDK(t *testing.T) {
	dir := modelClient(t, "@modelcontextprotocol/sdk/package.json")
	cmd := exec.Command("node", "-")
	cmd.Env = append(modelHome(t), "NODE_PATH="+filepath.Join(dir, "node_modules"))
	cmd.Stdin = strings.NewReader(otherSDK)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "done\n") {
		t.Errorf("got %v\n%s", err, out)
	}
}
