#!/bin/sh
# nobody.sh COMMAND...: runs a command as nobody. It needs a mount namespace of
# its own, where it binds what nobody may not see, as below /root, to places
# below TMPDIR.
set -eu

top=$TMPDIR/nobody
mkdir -p "$top/minictr" "$top/modules" "$top/go" "$top/home"
mount --bind . "$top/minictr"
mount --bind "$(go env GOMODCACHE)" "$top/modules"
mount --bind "$(go env GOROOT)" "$top/go"
if [ -d ../shared ]; then
	mkdir -p "$top/shared"
	mount --bind ../shared "$top/shared"
fi
chown nobody "$top/home"
cd "$top/minictr"
exec setpriv --reuid=nobody --regid=nogroup --clear-groups --bounding-set=-all \
	env -u GOCACHE -u GOPATH -u GOROOT -u XDG_CACHE_HOME -u XDG_RUNTIME_DIR \
	HOME="$top/home" PATH="$top/go/bin:$PATH" GOMODCACHE="$top/modules" GOTOOLCHAIN=local "$@"
