"""Every query and every transaction. SQLite and PostgreSQL are the same code behind one seam (`Database`)."""
