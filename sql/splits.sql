-- The split of each patient: 80 % train, 10 % validation, 10 % test.
--
-- Grain:  one row per patient
-- Key:    subject_id
-- Inputs: admissions, settings
-- Known:  always
-- Source: a hash of subject_id and the seed of the run
--
-- By patient, so that no stay of one teaches about another in the test. By hash, so that a patient keeps
-- the split when others are added, and no order of rows decides. The first 32 bits of MD5 are spread
-- evenly over [0, 1).

WITH positions AS (
    SELECT DISTINCT
        admissions.subject_id,
        CAST('0x' || left(md5(admissions.subject_id || ':' || settings.split_seed), 8) AS BIGINT) / 4294967296
            AS place
    FROM admissions
    CROSS JOIN settings
)

SELECT
    subject_id,
    CASE WHEN place < 0.8 THEN 'train' WHEN place < 0.9 THEN 'validation' ELSE 'test' END AS split
FROM positions
