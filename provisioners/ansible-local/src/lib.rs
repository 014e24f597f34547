//! The `ansible-local` provisioner: `ansible-playbook` on the machine itself.
