// Command duo lets AI agents on this machine find each other and write to each
// other. It only talks: to the daemon of this host, and where none can be reached,
// to the files in its home.
package main

import (
	"context"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	a := newApp()
	run := a.run
	if isHook(os.Args[1:]) {
		run = a.runHook // by itself: to make all the commands takes longer than a hook may
	}
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
