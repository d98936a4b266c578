-- Let every statement of this transaction see the same moment. Must be its first.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY
