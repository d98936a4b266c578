-- Every checkpoint that the database knows.
SELECT number, sha256 FROM checkpoint ORDER BY number
