#!/bin/sh
# Makes what a test needs to reach the engine from "far": certificates (`tls DIR`), or keys and a server's configuration
# (`ssh DIR PORT`). The servers themselves are the test's.
set -eu
directory=$2
cd "$directory"
case $1 in
tls)
    key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj /CN=kiln-test-ca
    sign() {
        openssl req $key -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
        printf '%s\n' "$2" >"$1.ext"
        openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.pem"
    }
    sign server 'subjectAltName=IP:127.0.0.1'
    sign client 'extendedKeyUsage=clientAuth'
    mkdir client
    cp ca.pem client/ca.pem
    mv client.pem client/cert.pem
    mv client.key client/key.pem
    ;;
ssh)
    ssh-keygen -q -t ed25519 -N '' -f host
    ssh-keygen -q -t ed25519 -N '' -f user
    printf '[127.0.0.1]:%s %s\n' "$3" "$(cat host.pub)" >known_hosts
    cat >sshd_config <<END
Port $3
ListenAddress 127.0.0.1
HostKey $directory/host
PidFile none
AuthorizedKeysFile $directory/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
END
    cat >ssh_config <<END
Host far
  HostName 127.0.0.1
  Port $3
  IdentityFile $directory/user
  IdentitiesOnly yes
  UserKnownHostsFile $directory/known_hosts
END
    # ssh looks for its configuration in the user's real home, whatever HOME says.
    mkdir bin
    printf '#!/bin/sh\nexec /usr/bin/ssh -F "%s/ssh_config" "$@"\n' "$directory" >bin/ssh
    chmod 755 bin/ssh
    ;;
esac
