#!/bin/sh
# Three agents talk about a file of this repository. Atlas and Nova use duo; Echo has
# nothing but the shell: files in its outbox, files in its inbox. An observer watches it
# all. What is claimed here is looked at, and where it did not happen the demo fails.
# Run it with: make demo
set -eu

cd "$(dirname "$0")/../.."
. docs/examples/scene.sh
duo=$PWD/bin/duo
file=daemon/call/call.go
DUO_HOME=$(mktemp -d "${TMPDIR:-/tmp}/duo-demo.XXXXXX")
export DUO_HOME
streams=$(mktemp -d "${TMPDIR:-/tmp}/duo-demo-streams.XXXXXX")
pids=
finish() {
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	"$duo" down >/dev/null 2>&1 || true
	rm -rf "$streams"
}
trap finish EXIT

# as AGENT COMMAND... shows a command and runs it for an agent.
as() {
	agent=$1
	shift
	printf '%s$ duo' "$agent"
	for word in "$@"; do
		case $word in
		*[!a-zA-Z0-9_.,=-]*) printf ' "%s"' "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
	echo
	DUO_AS=$agent "$duo" "$@"
}

# listen NAME ARGUMENTS... opens a stream, whose output is kept beside the home.
listen() {
	name=$1
	shift
	: >"$streams/$name"
	echo 0 >"$streams/$name.told"
	"$duo" watch --text "$@" >"$streams/$name" 2>&1 &
	pids="$pids $!"
}

has() { grep -q -e "$2" "$streams/$1"; }

# sees NAME PATTERN waits until a stream has brought a line, and shows what is new in it.
sees() {
	soon has "$1" "$2" || fail "$1's stream has not brought: $2"
	told=$(cat "$streams/$1.told")
	lines=$(wc -l <"$streams/$1")
	sed -n "$((told + 1)),${lines}s/^/    $1 sees: /p" "$streams/$1"
	echo "$lines" >"$streams/$1.told"
}

is_listening() { "$duo" who | grep -v nobody | grep -q "^$1 .*listening"; }
is_file() { [ -f "$1" ]; }

say "the host starts; Atlas and Nova register, Echo is a folder and a file"
"$duo" up
as Atlas register Atlas --capabilities go --description "writes Go"
as Nova register Nova --capabilities go,review --description "reviews Go"
echo=$DUO_HOME/agents/echo
mkdir -p "$echo/inbox/tmp" "$echo/inbox/new" "$echo/inbox/cur" "$echo/outbox/tmp" "$echo/outbox/new"
echo '{"name":"Echo","description":"has only a shell"}' >"$echo/agent.json"
listen Observer --all
listen Atlas --as Atlas
listen Nova --as Nova
soon is_listening Atlas && soon is_listening Nova || fail "the streams of Atlas and Nova are not there"
are_open() { "$duo" status | grep -q " $1 streams,"; }
soon are_open 3 || fail "the observer's stream is not there"

say "Atlas looks who is there, and calls Nova about a file of this repository"
as Atlas who
line=$(grep -n 'Open() bool { return len(table' "$file" | cut -d: -f1)
[ -n "$line" ] || fail "$file has not the line that this is about"
as Atlas call Nova --topic "Review of $file" "Line $line: who sees to it that a call that was rejected is not accepted later?" | tee "$streams/call"
call=$(ref r <"$streams/call")

say "it rings at Nova at once; she accepts, with a first word"
sees Nova "$call Atlas calls you .*ringing"
table=$(grep -n '^var table' "$file" | cut -d: -f1)
as Nova accept "$call" "The table at line $table: what has no entry in it is refused." | tee "$streams/accept"
conversation=$(ref c <"$streams/accept")
sees Atlas "$call Nova accepted your call"
sees Atlas "The table at line $table"

say "they talk; each message is in the other's stream at once"
as Atlas send "And which states have entries?"
sees Nova "And which states have entries?"
rows=$(sed -n '/^var table/,/^}/s/^	\([A-Z][a-z]*\):.*/\1/p' "$file" | paste -s -d, - | sed 's/,/, /g')
as Nova send "$rows. So rejected and cancelled end it."
sees Atlas "$rows"
as Atlas who

say "Atlas leaves: the call is over, and the conversation is kept"
as Atlas leave "$conversation" "Then it is right as it stands. Thank you."
sees Nova "Then it is right"
is_closed() { DUO_AS=Nova "$duo" list --status closed | grep -q "^$conversation "; }
soon is_closed || fail "the conversation is not closed"
as Nova list
as Nova log "$conversation" | tee "$streams/log"
grep -q "And which states" "$streams/log" || fail "the conversation cannot be read any more"
if DUO_AS=Nova "$duo" send --to "$conversation" "too late" 2>"$streams/late"; then fail "a closed conversation takes messages"; fi
sed 's/^/    /' "$streams/late"

say "Atlas calls Echo, who is not there: the request waits in Echo's inbox"
as Atlas call Echo --topic "A second look" "How many functions has $file?" | tee "$streams/call"
request=$(ref r <"$streams/call")
grep -q "Echo (queued)" "$streams/call" || fail "the call to Echo is not queued"
as Atlas who
(cd "$DUO_HOME" && ls agents/echo/inbox/new)

say "later Echo comes back. It reads the file, and accepts with a file"
ring=$(ls "$echo"/inbox/new/*.call.*.json)
cat "$ring"
grep -q '"status":"queued"' "$ring" || fail "Echo's inbox has no request that waits"
id=$(sed 's/.*"request":"\([^"]*\)".*/\1/' "$ring")
printf '{"type":"accept","request":"%s"}\n' "$id" >"$echo/outbox/tmp/yes.json"
mv "$echo/outbox/tmp/yes.json" "$echo/outbox/new/yes.json"
soon is_file "$echo/outbox/sent/yes.json" || fail "Echo's answer was not taken: $(cat "$echo"/outbox/failed/* 2>/dev/null)"
cat "$echo/outbox/sent/yes.json"
sees Atlas "$request Echo accepted your call"

say "Echo finds the question in its inbox, moves it to what it has seen, and answers what grep counts"
id=$(sed 's/.*"conversation":"\([^"]*\)".*/\1/' "$echo/outbox/sent/yes.json")
has_question() { ls "$echo"/inbox/new/*."$id".2.json >/dev/null 2>&1; }
soon has_question || fail "Echo has not got the question"
cat "$echo"/inbox/new/*."$id".2.json
mv "$echo"/inbox/new/*."$id".[12].json "$echo/inbox/cur/"
printf '{"conversation":"%s","replyTo":2,"content":"%s functions, says grep."}\n' "$id" "$(grep -c '^func ' "$file")" >"$echo/outbox/tmp/count.json"
mv "$echo/outbox/tmp/count.json" "$echo/outbox/new/count.json"
sees Atlas "functions, says grep"
as Atlas leave "$id" "Thank you."

say "the observer saw it all"
second=$(sed -n 's/^\(c[0-9a-f]*\)\.[0-9]* from Echo .*/\1/p' "$streams/Observer" | head -n 1)
soon has Observer "^$second\.[0-9]* .*closed the conversation" || fail "the observer has not seen the end"
for line in "$call Atlas calls Nova .*ringing" "$call Atlas calls Nova .*accepted" "^$conversation\.3 from Nova" "^$conversation\.4 from Atlas" \
	"^$conversation\.5 from Nova" "^$conversation\.6 Atlas left" "^$conversation\.7 .*closed" "$request Atlas calls Echo .*queued" \
	"$request Atlas calls Echo .*accepted" "^$second\.3 from Echo" "^$second\.4 Atlas left"; do
	has Observer "$line" || fail "the observer has not seen: $line"
done
sees Observer "^$second\.[0-9]* .*closed the conversation"

say "what was said there, from the log file, and where everything lies"
cat "$DUO_HOME/conversations/$id.jsonl"
(cd "$DUO_HOME" && find . -type f -o -type l | grep -v '/run/' | sort)
echo
echo "home: $DUO_HOME (remove it with: rm -r $DUO_HOME)"
