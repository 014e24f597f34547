//! The `ansible` provisioner: `ansible-playbook` on this host, against any machine.
