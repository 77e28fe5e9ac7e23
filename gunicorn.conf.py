"""How gunicorn serves Orgdesk; it reads this file where it is started.

A click that waits for an org holds a thread for up to 20 seconds, so there are
many: a slow org must not keep the pages from others.
"""

threads = 64
limit_request_line = 8190
"""Bytes: a page of the list by name has a name in its address."""
forwarded_allow_ips = ""
"""Nobody's X-Forwarded-Proto is believed here; ORGDESK_PROXIES has its say later."""
# logs.py gives the workers' error log its form. An access log, if it is asked for
# with --access-logfile, is redacted there as well.
control_socket_disable = True
umask = 0o077
"""What it makes, the database file too, is for its owner alone."""
