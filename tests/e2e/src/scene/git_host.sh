# The git host of a scene: fresh keys, one repository with one commit, and sshd in the foreground.
set -eu
umask 022

mkdir -p /run/sshd /run/scene /home/git/.ssh
ssh-keygen -q -t ed25519 -N '' -C host -f /etc/ssh/ssh_host_ed25519_key
(umask 077 && ssh-keygen -q -t ed25519 -N '' -C agent -f /run/scene/identity)
cp /run/scene/identity.pub /home/git/.ssh/authorized_keys

export HOME=/root
git config --global user.name demo
git config --global user.email demo@demo.internal
git init --quiet --bare --initial-branch=main /home/git/demo.git
git init --quiet --initial-branch=main /tmp/first
cd /tmp/first
echo 'Hello from the other side of the gate.' >README
git add README
git commit --quiet --message 'the first commit'
git push --quiet /home/git/demo.git main
cd /
rm -rf /tmp/first

chown -R git:git /home/git
chmod 700 /home/git/.ssh
cat >/etc/ssh/scene_sshd_config <<'CONFIG'
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile none
AllowUsers git
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
DisableForwarding yes
PermitTTY no
PrintMotd no
CONFIG
exec /usr/sbin/sshd -D -e -f /etc/ssh/scene_sshd_config
