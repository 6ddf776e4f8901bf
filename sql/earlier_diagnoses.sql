-- The diagnoses of each patient's earlier stays as one list, the latest stay's first.
--
-- Grain:  one row per stay with a coded earlier stay; none where the run does not ask for them
-- Key:    hadm_id
-- Inputs: admissions, diagnoses, icd_codes, prediction_times, settings
-- Known:  at predict_time: only stays that ended by then count, though coding takes some days more
-- Source: MIMIC-IV v3.1, hosp.diagnoses_icd
--
-- A code that several stays hold stands once, where it was coded last. A stay without a known end is left out.

WITH earlier AS (
    SELECT
        times.hadm_id,
        admissions.admittime,
        diagnoses.code_number,
        diagnoses.seq_num
    FROM prediction_times AS times
    CROSS JOIN settings
    INNER JOIN admissions
        ON admissions.subject_id = times.subject_id
        AND admissions.hadm_id <> times.hadm_id
        AND admissions.dischtime <= times.predict_time
    INNER JOIN diagnoses ON diagnoses.hadm_id = admissions.hadm_id
    WHERE settings.codes <> 'stay'
),

last_coded AS (
    SELECT
        hadm_id,
        code_number,
        max(admittime) AS coded_at,
        arg_max(seq_num, (admittime, -seq_num)) AS seq_num
    FROM earlier
    GROUP BY hadm_id, code_number
)

SELECT
    last_coded.hadm_id,
    list(
        {'icd_code': icd_codes.code, 'icd_version': icd_codes.icd_version, 'title': icd_codes.title}
        ORDER BY coded_at DESC, seq_num, code_number
    ) AS earlier_diagnoses
FROM last_coded
INNER JOIN icd_codes USING (code_number)
GROUP BY last_coded.hadm_id
