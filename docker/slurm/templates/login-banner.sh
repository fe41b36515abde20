#!/bin/sh
# What some sites do to every login, also to those of programs: print before the command's own output.
case "$$SSH_ORIGINAL_COMMAND" in
  internal-sftp* | */sftp-server*) exec /usr/lib/openssh/sftp-server ;;
esac
cat "$base/etc/banner"
if [ -z "$$SSH_ORIGINAL_COMMAND" ]; then
  exec "$${SHELL:-/bin/sh}" -l
fi
exec "$${SHELL:-/bin/sh}" -c "$$SSH_ORIGINAL_COMMAND"
