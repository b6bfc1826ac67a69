package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/claude-duo/duo/daemon/daemontest"
)

// browsers are the programs that can show the page, the fastest one first.
var browsers = []string{"chromium-headless-shell", "chromium", "google-chrome"}

// browser is a Chromium that runs as long as its test.
type browser struct {
	t   testing.TB
	ctx context.Context
}

// newBrowser starts a browser. Where there is none, the test is skipped, or fails when
// DUO_BROWSER is "must".
func newBrowser(t testing.TB) *browser {
	t.Helper()
	path, err := findBrowser()
	switch {
	case err == nil:
	case os.Getenv("DUO_BROWSER") == "must":
		t.Fatal(err)
	default:
		t.Skip("the page is not shown: ", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("lang", "en-GB"),
		chromedp.Env("TZ=UTC"))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it does not start for root otherwise
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // it is closed in order, or killed below
		closeBrowser()
		stop()
		chromedp.FromContext(ctx).Allocator.Wait()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %q: %v", path, err)
	}
	return &browser{t: t, ctx: ctx}
}

func findBrowser() (string, error) {
	if path := os.Getenv("DUO_CHROME"); path != "" {
		return exec.LookPath(path)
	}
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no browser is found: install one of %s, or name one in DUO_CHROME", strings.Join(browsers, ", "))
}

// tab shows one page with a storage of its own, and notes what goes wrong in it.
type tab struct {
	t       testing.TB
	ctx     context.Context
	origin  string // http://127.0.0.1:7600
	allowed []string

	mu     sync.Mutex
	faults []string
}

// look is how a person's system wants pages to be.
type look struct {
	width, height int64
	dark, still   bool
}

var (
	desk  = look{width: 1280, height: 800}
	night = look{width: 1280, height: 800, dark: true}
	phone = look{width: 360, height: 740}
)

// newTab opens an empty tab for pages of an origin. What goes wrong in it until the end
// of the test fails the test.
func (b *browser) newTab(t testing.TB, origin string, l look) *tab {
	t.Helper()
	p := &tab{t: t, origin: origin}
	ctx, done := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.event))
	p.ctx = ctx
	t.Cleanup(func() {
		t.Helper()
		for _, fault := range p.seen() {
			t.Error(fault)
		}
		_ = chromedp.Cancel(ctx) // a tab that is gone already
		done()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	must(p, audits.Enable, cdp.Empty{})
	must(p, accessibility.Enable, cdp.Empty{})
	must(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: reportViolations})
	p.look(l)
	return p
}

const reportViolations = `addEventListener("securitypolicyviolation", e => console.error("policy violated: " + e.violatedDirective + " by " + (e.blockedURI || e.sample)))`

// during lets a part of the test fail for what is wrong while it runs.
func (p *tab) during(t testing.TB) {
	whole := p.t
	p.t = t
	t.Cleanup(func() { p.t = whole })
}

// look changes what the person's system wants.
func (p *tab) look(l look) {
	p.t.Helper()
	must(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 600})
	features := []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: map[bool]string{false: "light", true: "dark"}[l.dark]},
		{Name: "prefers-reduced-motion", Value: map[bool]string{false: "no-preference", true: "reduce"}[l.still]},
	}
	must(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
}

// event runs in the loop of the tab, which it must not hold up.
func (p *tab) event(ev any) {
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		p.fault("exception: %s", ev.ExceptionDetails.Text+" "+described(ev.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		p.console(ev)
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.EntryLevelError || ev.Entry.Level == log.EntryLevelWarning {
			p.fault("log: %s %s", ev.Entry.Text, ev.Entry.URL)
		}
	case *audits.EventIssueAdded:
		p.fault("issue: %s %s", ev.Issue.Code, daemontest.JSON(ev.Issue.Details))
	case *network.EventRequestWillBeSent:
		p.request(ev.Request.URL)
	case *network.EventWebSocketCreated:
		p.request(strings.Replace(ev.URL, "ws", "http", 1))
	case *page.EventJavascriptDialogOpening:
		p.fault("dialog: %s", ev.Message)
		go p.dismiss()
	}
}

func (p *tab) console(ev *runtime.EventConsoleAPICalled) {
	switch ev.Type {
	case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeAssert:
		var words []string
		for _, arg := range ev.Args {
			words = append(words, described(arg))
		}
		p.fault("console: %s", strings.Join(words, " "))
	}
}

func (p *tab) request(url string) {
	if !strings.HasPrefix(url, p.origin+"/") && !strings.HasPrefix(url, "data:") && !strings.HasPrefix(url, "blob:"+p.origin) && url != "about:blank" {
		p.fault("request elsewhere: %s", url)
	}
}

// dismiss closes a dialog, which holds up all that the tab does.
func (p *tab) dismiss() {
	_, _ = chromedp.Call(p.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{}) // the tab may be gone
}

func (p *tab) fault(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

// allow says that faults with this text in them are meant to happen.
func (p *tab) allow(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = append(p.allowed, text)
}

// seen is what went wrong and was not meant to.
func (p *tab) seen() (faults []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
next:
	for _, fault := range p.faults {
		for _, text := range p.allowed {
			if strings.Contains(fault, text) {
				continue next
			}
		}
		faults = append(faults, fault)
	}
	return faults
}

// open shows a page of the origin, as it is when it knows whether somebody is signed in:
// what stands there before is replaced.
func (p *tab) open(path string) {
	p.t.Helper()
	ctx, done := p.bounded()
	defer done()
	if err := chromedp.Do(ctx, chromedp.Navigate(p.origin+path)); err != nil {
		p.t.Fatalf("open %q: %v", path, err)
	}
	p.wait(`!document.querySelector("main.alone > .empty")`)
}

// eval is the value of an expression in the page, or of the promise that it is.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	value, err := tryEval[T](p, expression)
	if err != nil {
		p.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return value
}

func tryEval[T any](p *tab, expression string) (T, error) {
	ctx, done := p.bounded()
	defer done()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// wait waits until an expression in the page is true.
func (p *tab) wait(expression string) {
	p.t.Helper()
	p.until(expression, func() bool {
		ok, err := tryEval[bool](p, "!!("+expression+")")
		return err == nil && ok // a page that is just being replaced has no answer
	})
}

// shows waits until the page has a text.
func (p *tab) shows(text string) {
	p.t.Helper()
	p.wait("document.body.innerText.includes(" + quoted(text) + ")")
}

// hides waits until the page does not have a text.
func (p *tab) hides(text string) {
	p.t.Helper()
	p.wait("!document.body.innerText.includes(" + quoted(text) + ")")
}

const (
	patience = 45 * time.Second // until what a test waits for has happened
	bound    = time.Minute      // of one command to the browser
)

// bounded is the context of one command: a page that is stuck fails its test.
func (p *tab) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, bound)
}

func (p *tab) until(what string, condition func() bool) {
	p.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			body, _ := tryEval[string](p, "location.href + '\\n' + document.body.innerText")
			p.t.Fatalf("it does not happen within %s: %s\nfaults: %q\nthe page: %s", patience, what, p.seen(), body)
		}
	}
}

// element is a part of the page as assistive technology finds it.
type element struct {
	p    *tab
	node cdp.BackendNodeID
	what string
}

// find waits for the one part of the page with a role and a name that contains a text.
func (p *tab) find(role, name string) element {
	p.t.Helper()
	return p.findIn(0, role, name)
}

// find waits for the one part of the element with a role and a name that contains a text.
func (e element) find(role, name string) element {
	e.p.t.Helper()
	return e.p.findIn(e.node, role, name)
}

func (p *tab) findIn(root cdp.BackendNodeID, role, name string) element {
	p.t.Helper()
	var found []element
	p.until(fmt.Sprintf("one %s %q", role, name), func() bool {
		found = p.query(root, role, name)
		return len(found) == 1
	})
	return found[0]
}

// count says how many parts of the page have a role and a name that contains a text.
func (p *tab) count(role, name string) int { return len(p.query(0, role, name)) }

// query finds what is not hidden from assistive technology, below a node or in all of the
// page.
func (p *tab) query(root cdp.BackendNodeID, role, name string) (found []element) {
	if root == 0 {
		document, err := try(p, dom.GetDocument, dom.GetDocumentParams{})
		if err != nil {
			return nil // the page is just being replaced
		}
		root = document.Root.BackendNodeID
	}
	all, err := try(p, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{BackendNodeID: root, Role: role})
	if err != nil {
		return nil
	}
	for _, node := range all.Nodes {
		var text string
		if node.Name != nil {
			_ = json.Unmarshal(node.Name.Value, &text) // no text is an empty name
		}
		if !node.Ignored && strings.Contains(text, name) {
			found = append(found, element{p, node.BackendDOMNodeID, role + " " + text})
		}
	}
	return found
}

// callOn calls a function with the element as this.
func callOn[T any](e element, function string) T {
	e.p.t.Helper()
	var value T
	object, err := try(e.p, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: e.node})
	if err != nil {
		e.p.t.Fatalf("%s is gone: %v", e.what, err)
	}
	byValue := true
	result, err := try(e.p, runtime.CallFunctionOn, runtime.CallFunctionOnParams{FunctionDeclaration: function, ObjectID: object.Object.ObjectID, ReturnByValue: &byValue})
	if err == nil && result.Result.Value != nil {
		err = json.Unmarshal(result.Result.Value, &value)
	}
	if err != nil || result.ExceptionDetails != nil {
		e.p.t.Fatalf("call %s on %s: %v %s", function, e.what, err, daemontest.JSON(result.ExceptionDetails))
	}
	return value
}

// shows waits until the element has a text.
func (e element) shows(text string) {
	e.p.t.Helper()
	e.p.until(e.what+" shows "+quoted(text), func() bool { return e.has(text) })
}

// hides waits until the element does not have a text.
func (e element) hides(text string) {
	e.p.t.Helper()
	e.p.until(e.what+" hides "+quoted(text), func() bool { return !e.has(text) })
}

// has reports whether the element shows a text, whatever its look makes of capitals.
func (e element) has(text string) bool {
	e.p.t.Helper()
	return strings.Contains(strings.ToLower(e.text()), strings.ToLower(text))
}

// text is what the element shows, its lines joined by spaces.
func (e element) text() string {
	e.p.t.Helper()
	return strings.Join(strings.Fields(callOn[string](e, `function() { return this.innerText }`)), " ")
}

// click clicks with the mouse on the middle of the element.
func (e element) click() {
	e.p.t.Helper()
	middle := callOn[[]float64](e, `function() {
		this.scrollIntoView({block: "nearest", behavior: "instant"})
		const box = this.getBoundingClientRect()
		return [box.x + box.width / 2, box.y + box.height / 2]
	}`)
	ctx, done := e.p.bounded()
	defer done()
	if err := chromedp.Do(ctx, chromedp.MouseClickXY(middle[0], middle[1])); err != nil {
		e.p.t.Fatalf("click on %s: %v", e.what, err)
	}
}

// write replaces what stands in a field.
func (e element) write(text string) {
	e.p.t.Helper()
	callOn[bool](e, `function() { this.focus(); this.select?.(); return true }`)
	e.p.press(text)
}

// press presses keys, one after the other, as a keyboard does: what the page does with the
// pressing of a key can keep its character from being written.
func (p *tab) press(keys string, modifiers ...chromedp.Modifier) {
	p.t.Helper()
	var held chromedp.Modifier
	for _, m := range modifiers {
		held |= m
	}
	for _, r := range keys {
		key, ok := kb.Keys[r]
		if !ok {
			must(p, input.InsertText, input.InsertTextParams{Text: string(r)})
			continue
		}
		event := input.DispatchKeyEventParams{
			Type: input.DispatchKeyEventTypeRawKeyDown, Key: key.Key, Code: key.Code,
			WindowsVirtualKeyCode: key.Windows, NativeVirtualKeyCode: key.Native, Modifiers: int64(held),
		}
		if key.Shift {
			event.Modifiers |= int64(kb.ModifierShift)
		}
		if key.Print && held == 0 {
			event.Type, event.Text, event.UnmodifiedText = input.DispatchKeyEventTypeKeyDown, key.Text, key.Unmodified
		}
		must(p, input.DispatchKeyEvent, event)
		event.Type, event.Text, event.UnmodifiedText = input.DispatchKeyEventTypeKeyUp, "", ""
		must(p, input.DispatchKeyEvent, event)
	}
}

// focused is the name of what has the focus.
func (p *tab) focused() string {
	p.t.Helper()
	name := eval[string](p, `(e => e === document.body ? "" : (e.getAttribute("aria-label") || e.labels?.[0]?.innerText || e.innerText || e.placeholder || e.id))(document.activeElement)`)
	return strings.Join(strings.Fields(name), " ")
}

func must[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := try(p, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

func try[P, R any](p *tab, command cdp.Command[P, R], params P) (R, error) {
	ctx, done := p.bounded()
	defer done()
	return chromedp.Call(ctx, command, params)
}

func described(o *runtime.RemoteObject) string {
	switch {
	case o == nil:
		return ""
	case o.Description != "":
		return o.Description
	}
	return string(o.Value)
}

func quoted(text string) string { return daemontest.JSON(text) }

// css waits for the one part of the page that a selector names: for what assistive
// technology has no name for.
func (p *tab) css(selector string) element {
	p.t.Helper()
	var found []cdp.NodeID
	p.until("one "+selector, func() bool {
		document, err := try(p, dom.GetDocument, dom.GetDocumentParams{})
		if err != nil {
			return false
		}
		all, err := try(p, dom.QuerySelectorAll, dom.QuerySelectorAllParams{NodeID: document.Root.NodeID, Selector: selector})
		found = all.NodeIDs
		return err == nil && len(found) == 1
	})
	node := must(p, dom.DescribeNode, dom.DescribeNodeParams{NodeID: found[0]})
	return element{p, node.Node.BackendNodeID, selector}
}
