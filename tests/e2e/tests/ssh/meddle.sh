# Everything that would change what an ssh-agent holds: first against one of the agent's own, where it
# comes true, then against the bottle's. Each attempt prints a line: `own|bottle ATTEMPT yes|no`.
cd

# ssh-add asks for the lock's word and for a card's PIN.
printf '#!/bin/sh\necho word\n' >askpass
chmod +x askpass
export SSH_ASKPASS=$HOME/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:0
ssh-keygen -q -t ed25519 -N '' -f another

try() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >&2 </dev/null; then echo "$name yes"; else echo "$name no"; fi
}

meddle() { # NAME
    try "$1 add" ssh-add another
    ssh-add -L >held.pub
    try "$1 remove" ssh-add -d held.pub
    ssh-add another 2>/dev/null
    try "$1 lock" ssh-add -x
    ssh-add -X 2>/dev/null
    try "$1 remove-all" ssh-add -D
}

bottles=$SSH_AUTH_SOCK
eval "$(ssh-agent)" >/dev/null
meddle own
kill "$SSH_AGENT_PID"

export SSH_AUTH_SOCK=$bottles
before=$(ssh-add -L)
meddle bottle
try 'bottle smartcard' ssh-add -s /usr/lib/pkcs11.so
unchanged() { [[ -n $before && $(ssh-add -L) == "$before" ]]; }
try unchanged unchanged
try usable git ls-remote git:demo.git
