-- The pause under which all of the installation is, or null.
SELECT maintenance FROM installation WHERE id = 1
