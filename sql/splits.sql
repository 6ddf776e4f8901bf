-- The split of each patient: train, validation or test.
--
-- Grain:  one row per patient
-- Key:    subject_id
-- Inputs: admissions, settings
-- Known:  always
-- Source: a hash of subject_id and the seed of the run; or anchor_year_group
--
-- Always by patient, so that no stay of one teaches about another in the test.
-- patient: 80 % train, 10 % validation, 10 % test by hash, so that a patient keeps the split when others are
--   added, and no order of rows decides. The first 32 bits of MD5 are spread evenly over [0, 1).
-- fold: the same hash deals K folds; fold i is test, the next one validation, the others train.
-- time: patients of the last anchor_year_group are test, those of the last but one validation, earlier ones
--   train; without a group a patient trains. The group is that of the anchor year: of a patient of 2008 - 2010,
--   a stay years later is training too.

WITH positions AS (
    SELECT
        admissions.subject_id,
        any_value(admissions.anchor_year_group) AS anchor_year_group,
        any_value(CAST('0x' || left(md5(admissions.subject_id || ':' || settings.split_seed), 8) AS BIGINT)) / 4294967296
            AS place
    FROM admissions
    CROSS JOIN settings
    GROUP BY admissions.subject_id
),

placed AS (
    SELECT
        subject_id,
        place,
        dense_rank() OVER (ORDER BY anchor_year_group DESC NULLS LAST) AS years_from_last,
        anchor_year_group IS NOT NULL AS dated
    FROM positions
)

SELECT
    placed.subject_id,
    CASE settings.split
        WHEN 'patient' THEN CASE WHEN place < 0.8 THEN 'train' WHEN place < 0.9 THEN 'validation' ELSE 'test' END
        WHEN 'fold' THEN CASE CAST(floor(place * settings.folds) AS INTEGER)
            WHEN settings.fold THEN 'test'
            WHEN (settings.fold + 1) % settings.folds THEN 'validation'
            ELSE 'train'
        END
        WHEN 'time' THEN CASE
            WHEN dated AND years_from_last = 1 THEN 'test'
            WHEN dated AND years_from_last = 2 THEN 'validation'
            ELSE 'train'
        END
    END AS split
FROM placed
CROSS JOIN settings
