-- The drugs of each patient's previous admission, as far as they were ordered by the prediction time.
--
-- Grain:  one row per stay with an earlier stay that has drugs
-- Key:    hadm_id
-- Inputs: admissions, drug_lists, prediction_times
-- Known:  at predict_time
-- Source: MIMIC-IV v3.1, hosp.admissions and hosp.prescriptions
--
-- The previous admission is the last one that began before this one and has any drug: an observation stay
-- without orders does not hide what the patient took before. Example: stays A (drugs), B (none), C: the
-- previous drugs of C are those of A. An order without a time counts as written when its stay began.

WITH earlier AS (
    SELECT
        admissions.hadm_id,
        last_value(
            CASE WHEN drug_lists.hadm_id IS NOT NULL
                THEN {'hadm_id': admissions.hadm_id, 'admittime': admissions.admittime}
            END IGNORE NULLS
        ) OVER (
            PARTITION BY admissions.subject_id
            ORDER BY admissions.admittime, admissions.hadm_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS previous
    FROM admissions
    LEFT JOIN drug_lists USING (hadm_id)
)

SELECT
    earlier.hadm_id,
    earlier.previous.hadm_id AS previous_hadm_id,
    list_transform(
        list_filter(
            drug_lists.ordered,
            lambda o: coalesce(o.first_order, earlier.previous.admittime) <= times.predict_time
        ),
        lambda o: o.drug
    ) AS previous_drugs
FROM earlier
INNER JOIN drug_lists ON drug_lists.hadm_id = earlier.previous.hadm_id
INNER JOIN prediction_times AS times ON times.hadm_id = earlier.hadm_id
WHERE previous_drugs <> []
