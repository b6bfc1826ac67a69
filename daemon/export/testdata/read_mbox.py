"""For each path on standard input, prints what a mail program reads there, as one line of JSON."""
import email
import email.policy
import hashlib
import json
import mailbox
import sys


def part(p):
    data = p.get_payload(decode=True)
    return {
        "name": p["Content-Disposition"].params["filename"],  # get_filename() strips it
        "type": p.get_content_type(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }


def read(m):
    parts = [p for p in m.walk() if not p.is_multipart()]
    return {
        "from": [(a.display_name, a.addr_spec) for a in m["From"].addresses],
        "to": [(a.display_name, a.addr_spec) for a in m["To"].addresses],
        "date": int(m["Date"].datetime.timestamp()),
        "subject": str(m["Subject"] or ""),
        "id": m["Message-ID"].strip(),
        "parent": (m["In-Reply-To"] or "").strip(),
        "references": (m["References"] or "").split(),
        "headers": {k: str(v) for k, v in m.items() if k.startswith("X-Duo-")},
        "names": sorted(set(m.keys())),
        "text": parts[0].get_payload(decode=True).decode("utf-8"),
        "files": [part(p) for p in parts[1:]],
        "defects": [repr(d) for p in m.walk() for d in p.defects] + [repr(d) for v in m.values() for d in getattr(v, "defects", ())],
    }


for path in sys.stdin:
    box = mailbox.mbox(path.rstrip("\n"), factory=lambda f: email.message_from_binary_file(f, policy=email.policy.default), create=False)
    print(json.dumps([read(m) for m in box]), flush=True)
