# Uses of the first host's key, whose public part comes on stdin: for its own host, for another, for the
# other under the first one's name, and for data that is no login. Each prints a line: `USE yes|no`.
cd
cat >first.pub
echo anything >data

try() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >&2 </dev/null; then echo "$name yes"; else echo "$name no"; fi
}

# With that key and no other.
reach() { # HOST OPTION...
    local host=$1
    shift
    GIT_SSH_COMMAND="ssh -o IdentitiesOnly=yes -o IdentityFile=$HOME/first.pub $*" git ls-remote "$host:demo.git"
}

try own reach git
try other reach other
try other-by-alias reach other -o HostKeyAlias=git.demo.internal -o StrictHostKeyChecking=no \
    -o UserKnownHostsFile=/dev/null
try data ssh-keygen -Y sign -f first.pub -n file data
