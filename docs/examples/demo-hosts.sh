#!/bin/sh
# Three hosts on this machine. A laptop and a server cannot reach each other; a hub carries
# between them. Agents on them find, call and write to each other, hosts go away
# and come back, also when the other one is not there, and in the end all have the same. What is claimed here is looked at, and
# where it did not happen the demo fails. Run it with: make demo-hosts
set -eu

cd "$(dirname "$0")/../.."
. docs/examples/scene.sh
duo=$PWD/bin/duo
file=sync/link/backoff.go
top=$(mktemp -d "${TMPDIR:-/tmp}/duo-demo-hosts.XXXXXX")
unset DUO_HOME
pids=
finish() {
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	for host in laptop hub server; do DUO_HOME=$top/$host "$duo" down >/dev/null 2>&1 || true; done
}
trap finish EXIT

# on HOST COMMAND... runs duo there.
on() {
	host=$1
	shift
	DUO_HOME=$top/$host "$duo" "$@"
}

# at HOST COMMAND... shows a command and runs it there.
at() {
	printf '%s$ duo' "$1"
	for word in "$@"; do
		[ "$word" = "$1" ] && continue
		case $word in
		*[!a-zA-Z0-9_.,@:=-]*) printf ' "%s"' "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
	echo
	on "$@"
}

# listen NAME HOST ARGUMENTS... opens a stream, whose output is kept.
listen() {
	name=$1
	host=$2
	shift 2
	: >"$top/$name.stream"
	echo 0 >"$top/$name.told"
	DUO_HOME=$top/$host "$duo" watch --text "$@" >"$top/$name.stream" 2>&1 &
	last=$!
	pids="$pids $last"
}

has() { grep -q -e "$2" "$top/$1.stream"; }

# sees NAME PATTERN waits until a stream has brought a line, and shows what is new in it.
sees() {
	soon has "$1" "$2" || fail "$1's stream has not brought: $2"
	told=$(cat "$top/$1.told")
	lines=$(wc -l <"$top/$1.stream")
	sed -n "$((told + 1)),${lines}s/^/    $1 sees: /p" "$top/$1.stream"
	echo "$lines" >"$top/$1.told"
}

linked() { on "$1" peer show "$2" | grep -q "link up"; }

say "three hosts: the laptop and the server let nobody in, the hub does"
for host in laptop hub server; do
	mkdir -m 700 "$top/$host"
	listens=off
	[ "$host" = hub ] && listens=127.0.0.1:0
	printf '[host]\nname = "%s"\n[http]\nlisten = "off"\n[link]\nlisten = "%s"\n' "$host" "$listens" >"$top/$host/config.toml"
done
at laptop register Atlas --capabilities go --description "writes Go"
at server register Nova --capabilities review --description "reviews Go"
at hub register Echo --description "looks after the hub"

say "the hub prints a code for each of them; they take it as their relay, and it carries for them"
for host in laptop server; do
	code=$(on hub pair | grep '^duo1-')
	at "$host" pair "$code" --relay
	at hub peer carry "$host" on
done
soon linked laptop server && soon linked server laptop || fail "the laptop and the server do not come together"
at laptop peer list
at server peer show laptop

say "the laptop sees who is there, on all hosts"
knows() { on laptop who | grep -q Nova@server; }
soon knows || fail "the laptop does not know Nova"
at laptop who
listen Nova server
nova=$last
listening() { on laptop who | grep -q 'Nova@server .*listening'; }
soon listening || fail "the laptop does not see that Nova listens"

say "Atlas calls Nova: through the hub, which can read nothing of it"
line=$(grep -n 'maxWait *= ' "$file" | cut -d: -f1)
at laptop call Nova@server --topic "Review of $file" "Line $line: is a minute not long for a peer that is back?" --attach "$file" | tee "$top/call"
call=$(ref r <"$top/call")
sees Nova "$call Atlas@laptop calls you .*ringing"
at server accept "$call" "It is: but whoever comes back dials itself, and that resets the wait."
listen Atlas laptop
sees Atlas "whoever comes back dials"
conversation=$(on laptop list --json | sed 's/.*"ref":"\(c[0-9a-f]*\)".*/\1/')
at laptop send --to "$conversation" "Then it stays at a minute."
sees Nova "Then it stays at a minute"
at server get "$conversation.2" --wait --out "$top/received.go"
cmp "$file" "$top/received.go" || fail "the file is not the same at the server"
echo "    the file is the same at the server"
at laptop receipts "$conversation.4"
at laptop leave "$conversation"
sees Nova "Atlas@laptop left"

say "the server goes down; Atlas writes to Nova all the same"
kill "$nova"
wait "$nova" 2>/dev/null || true
at server down
gone() { on laptop who | grep -q 'Nova@server  *out of reach'; }
soon gone || fail "the laptop still sees Nova"
at laptop who
at laptop message Nova@server "When you are back: is the jitter enough?" | tee "$top/message"
message=$(ref c <"$top/message")
at laptop receipts "$message.2"

say "and comes back: the message is there"
at server up
arrived() { on server inbox | grep -q "is the jitter enough"; }
soon arrived || fail "the message has not come to the server"
at server read
at server reply "$message.2" "Half to one and a half: yes."
sees Atlas "Half to one and a half"
seen() { on laptop receipts "$message.2" | grep -q "(seen)"; }
soon seen || fail "the laptop does not hear that Nova has seen the message"
at laptop receipts "$message.2"

say "they need not be there together: the server goes down, Atlas writes, the laptop goes down"
at server down
soon gone || fail "the laptop still sees Nova"
at laptop send --to "$message" "One more: who dials first after that?"
holds() { ls "$top/hub/peers/$1/held" 2>/dev/null | grep -q '\.held$'; }
soon holds server || fail "the hub holds nothing for the server"
echo "    the hub holds it, sealed for the server"
kill "$last"
wait "$last" 2>/dev/null || true
at laptop down

say "the server is back, the laptop is not: the message is there, and Nova answers"
at server up
asked() { on server inbox | grep -q "who dials first"; }
soon asked || fail "the hub has not given the message to the server"
at server read
at server reply "$message.4" "Whoever is back."
soon holds laptop || fail "the hub holds nothing for the laptop"
at server down

say "and the laptop reads that while the server is away again"
at laptop up
told() { on laptop inbox | grep -q "Whoever is back"; }
soon told || fail "the hub has not given the answer to the laptop"
at laptop read
at server up
same() { for log in "$top"/laptop/conversations/*.jsonl; do cmp -s "$log" "$top/server/conversations/$(basename "$log")" || return 1; done; }
soon same || true # and if not, the next lines say where

say "all hosts that are in a conversation have the same log"
for log in "$top"/laptop/conversations/*.jsonl; do
	name=$(basename "$log")
	cmp "$log" "$top/server/conversations/$name" || fail "the logs of $name differ"
	echo "    $name: $(wc -l <"$log") lines, the same on laptop and server"
done
[ -z "$(ls "$top/hub/conversations")" ] || fail "the hub has got a conversation that it is not in"
echo "    the hub has none of them"
finish
pids=
rm -rf "$top"
