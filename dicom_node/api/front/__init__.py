"""What every connection and request passes before a route sees it: TLS, proxies, deadlines, sizes, rates."""
