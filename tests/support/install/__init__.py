"""The node as it is installed for a service: its unit, its tree, a bare Debian to install it on."""
