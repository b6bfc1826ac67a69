#!/bin/sh
# A coding agent calls a security agent before it commits. What the security agent finds
# is mended, and only what it has approved is committed.
#
# Both are scripts. For models put into the place of review.sh:
#   claude -p "You review a diff for leaked secrets. Say 'approved', or 'refused: ' and why."
# Run it with: make examples
set -eu
cd "$(dirname "$0")/../.."
. docs/examples/stage.sh

cat >"$stage/review.sh" <<'END'
# Gets a diff in a frame. What it prints is the review.
diff=$(sed -n 's/^| //p')
found=$(printf '%s\n' "$diff" | grep -n '^+.*\(password\|secret\|token\) *=' | head -n 1)
if [ -n "$found" ]; then
	echo "refused: line ${found%%:*} of the diff has a secret in it"
else
	echo "approved"
fi
END

say "a security agent takes calls from those who write code"
duo register Coder --capabilities go
attend Guard security,review "sh $stage/review.sh" --calls accept --accept-from Coder
duo who

# commit MESSAGE commits the working tree, where the security agent approves of it.
mkdir "$stage/tree" "$stage/committed"
commit() {
	(cd "$stage" && diff -ruN committed tree) >"$stage/diff" || true
	called=$(duo call Guard --as Coder --topic "Commit: $1" --wait=60s) || fail "Guard does not take the call: $called"
	conversation=$(printf '%s\n' "$called" | ref c)
	verdict=$(duo send --as Coder --to "$conversation" --body-file "$stage/diff" --wait=60s | body)
	duo leave "$conversation" --as Coder >/dev/null
	echo "$1: $verdict"
	duo log "$conversation" --as Coder >>"$stage/transcript"
	case $verdict in
	approved) cp "$stage"/tree/* "$stage/committed/" ;;
	*) return 1 ;;
	esac
}

say "the coder writes a client with a password in it, and wants to commit"
cat >"$stage/tree/client.go" <<'END'
package client

const password = "hunter2"
END
if commit "add a client"; then fail "a password was committed"; fi

say "it mends that, and asks again"
cat >"$stage/tree/client.go" <<'END'
package client

import "os"

var key = os.Getenv("CLIENT_KEY")
END
commit "add a client that asks for its key" || fail "what is right was not committed"

say "what they said"
cat "$stage/transcript"
[ "$(grep -c '^| refused: line [0-9]* of the diff has a secret in it$' "$stage/transcript")" = 1 ] || fail "not refused once"
[ "$(grep -c '^| approved$' "$stage/transcript")" = 1 ] || fail "not approved once"
grep -q Getenv "$stage/committed/client.go" || fail "the commit is missing"
if grep -q hunter2 "$stage/committed/client.go"; then fail "the password was committed"; fi
calls_are_over() { [ "$(duo list --as Coder --status closed | grep -c '"Commit: ')" = 2 ]; }
soon calls_are_over || fail "the calls are not over"
say "done: one refused, one approved"
