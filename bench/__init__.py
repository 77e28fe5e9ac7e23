"""How fast Orgdesk is: `make bench`. What travels to other machines are ratios."""
